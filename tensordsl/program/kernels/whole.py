"""Functions of whole arrays, and entries taken by lists of places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensordsl.program.kernels.base import Kernel, Size, signature


@dataclass(frozen=True)
class Gather(Kernel):
    """Entries taken by lists of places along some axes: the lists are the operands after the first."""

    axes: tuple[int, ...] = ()

    kind = "gather"

    def source(self, names: Sequence[str], size: Size) -> str:
        x, *places = names
        if len(self.axes) == 1:
            return f"np.take({x}, {places[0]}, axis={self.axes[0]})"
        order = [*self.axes, *(p for p in range(len(self.inputs[0])) if p not in self.axes)]
        if order != sorted(order):
            x += f".transpose({', '.join(map(str, order))})"
        return f"{x}[{', '.join(places)}]"

    @property
    def title(self) -> str:
        return signature([self.inputs[0]], self.output)


@dataclass(frozen=True)
class Apply(Kernel):
    """A function of whole arrays, such as an inverse."""

    template: str
    name: str
    kind = "apply"

    @property
    def title(self) -> str:
        return self.name

    def source(self, names: Sequence[str], size: Size) -> str:
        return self.template.format(*names)


@dataclass(frozen=True)
class Places(Kernel):
    """The positions that a selection takes by its pattern."""

    template: str
    name: str
    kind = "gather"

    @property
    def title(self) -> str:
        return self.name

    def source(self, names: Sequence[str], size: Size) -> str:
        return self.template
