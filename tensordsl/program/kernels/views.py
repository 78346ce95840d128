"""The same entries seen otherwise: nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensordsl.labels import Label
from tensordsl.program.kernels.base import Kernel, Size, align, shape_text, signature


@dataclass(frozen=True)
class View(Kernel):
    """An operand seen otherwise: axes reordered and added, entries of a diagonal, a slice, a shape."""

    kind = "view"
    views = True

    @property
    def title(self) -> str:
        return ""


@dataclass(frozen=True)
class Arrange(View):
    """Axes in another order, and axes of size one for the labels that are new; no entry is copied."""

    ndim: int = 0  # of the result, where axes of size one stand in front too

    def source(self, names: Sequence[str], size: Size) -> str:
        text = align(names[0], self.inputs[0], self.output)
        lead = 0
        while lead < len(self.output) and self.output[lead] not in self.inputs[0]:
            lead += 1
        if lead and self.inputs[0]:
            text = f"{text}[{', '.join(['None'] * lead + ['...'])}]"
        return text

    def along(self, label: Label) -> bool:
        return label in self.inputs[0]


@dataclass(frozen=True)
class Diagonal(View):
    """The entries where axes with the same label have the same index."""

    kind = "diagonal"

    @property
    def title(self) -> str:
        return signature(self.inputs, self.output)

    def source(self, names: Sequence[str], size: Size) -> str:
        return f'np.einsum("{self.title}", {names[0]})'

    def along(self, label: Label) -> bool:
        return True


@dataclass(frozen=True)
class Index(View):
    """A basic index, `x[1:k, :]`: labels of axes that are taken whole stay."""

    keys: tuple[str, ...] = ()

    def source(self, names: Sequence[str], size: Size) -> str:
        return f"{names[0]}[{', '.join(self.keys)}]"

    def along(self, label: Label) -> bool:
        return label in self.inputs[0] and label in self.output


@dataclass(frozen=True)
class Reshape(View):
    """Axes split or merged: labels that stand on both sides are those of axes that stay as they are."""

    shape: tuple[str, ...] = ()

    def source(self, names: Sequence[str], size: Size) -> str:
        return f"{names[0]}.reshape{shape_text(self.shape)}"


@dataclass(frozen=True)
class Broadcast(View):
    """An operand repeated along the labels that it lacks."""

    shape: tuple[str, ...] = ()

    def source(self, names: Sequence[str], size: Size) -> str:
        return f"np.broadcast_to({align(names[0], self.inputs[0], self.output)}, {shape_text(self.shape)})"
