"""Functions entry by entry, and sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensordsl.labels import Label
from tensordsl.program.kernels.base import Count, Kernel, Size, align


@dataclass(frozen=True)
class Map(Kernel):
    """A function entry by entry, operands broadcast along the labels that they lack."""

    template: str  # the NumPy source, with {0}, {1}, ... for the arguments
    arguments: tuple[int | str, ...]  # the place of an operand, or the source of a number
    name: str
    ufunc: str | None = None  # the NumPy ufunc that the source is one call of, which can write into `out=`

    kind = "map"

    @property
    def title(self) -> str:
        return self.name

    @property
    def entrywise(self) -> bool:
        return True

    def along(self, label: Label) -> bool:
        return True

    def hidden(self, count: Count) -> int:
        # Of nested calls, what the inner one gives is alive while the outer one is made.
        calls = self.template.count("(") + sum(self.template.count(f" {sign} ") for sign in "+-*/")
        return count(self.output) if calls > 1 and self.ufunc is None else 0

    def _texts(self, names: Sequence[str]) -> list[str]:
        return [
            argument if isinstance(argument, str) else align(names[argument], self.inputs[argument], self.output)
            for argument in self.arguments
        ]

    def source(self, names: Sequence[str], size: Size) -> str:
        return self.template.format(*self._texts(names))

    def into(self, names: Sequence[str], size: Size, out: str) -> str | None:
        return None if self.ufunc is None else f"{self.ufunc}({', '.join([*self._texts(names), f'out={out}'])})"


@dataclass(frozen=True)
class Total(Kernel):
    """The sum over the labels that the output lacks."""

    kind = "reduce"

    @property
    def axes(self) -> str:
        (labels,) = self.inputs
        gone = tuple(place for place, label in enumerate(labels) if label not in self.output)
        if len(gone) == len(labels):
            return ""
        return f"axis={gone[0] if len(gone) == 1 else gone}"

    def along(self, label: Label) -> bool:
        return True

    def source(self, names: Sequence[str], size: Size) -> str:
        return f"{names[0]}.sum({self.axes})"

    def into(self, names: Sequence[str], size: Size, out: str) -> str | None:
        return f"{names[0]}.sum({', '.join(filter(None, [self.axes, f'out={out}']))})" if self.output else None
