"""Arrays that are allocated, filled, and written in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensordsl.labels import Label
from tensordsl.program.kernels.base import Kernel, Labels, Size, align, shape_text, signature


@dataclass(frozen=True)
class Empty(Kernel):
    """Storage whose entries are written later."""

    shape: tuple[str, ...]
    dtype: str  # the source

    kind = "allocate"

    @property
    def title(self) -> str:
        return ""

    def source(self, names: Sequence[str], size: Size) -> str:
        return f"np.empty({shape_text(self.shape)}, {self.dtype})"


@dataclass(frozen=True)
class Full(Kernel):
    """An array of one number, its dtype that of the operands together."""

    value: str
    shape: tuple[str, ...]
    dtype: str = ""  # the source, with {0}, {1}, ... for the operands

    kind = "allocate"

    @property
    def title(self) -> str:
        return ""

    def source(self, names: Sequence[str], size: Size) -> str:
        shape = shape_text(self.shape)
        if self.value == "0":
            return f"np.zeros({shape}, {self.dtype.format(*names)})"
        return f"np.full({shape}, {self.value})"


@dataclass(frozen=True)
class Pack(Kernel):
    """The entries of an operand, broadcast and in the order of the output, in storage of their own."""

    shape: tuple[str, ...] | None = None  # where axes are merged, or repeated
    dtype: str = ""  # the source of the dtype, where it is not the operand's; further operands stand in it

    kind = "allocate"

    @property
    def title(self) -> str:
        return ""

    def along(self, label: Label) -> bool:
        return self.shape is None and label in self.output

    def seen(self, names: Sequence[str], size: Size) -> str:
        """The entries as a view, where that can be."""
        if self.shape is not None:
            return f"{names[0]}.reshape{shape_text(self.shape)}"
        text = align(names[0], self.inputs[0], self.output)
        if len(self.inputs[0]) < len(self.output):
            text = f"np.broadcast_to({text}, {shape_text([size(label) for label in self.output])})"
        return text

    def source(self, names: Sequence[str], size: Size) -> str:
        text = self.seen(names, size)
        if self.shape is not None:
            return text
        if self.dtype:
            return f"np.array({text}, dtype={self.dtype.format(*names)})"
        return f"{text}.copy()" if text != names[0] else f"np.array({text})"


@dataclass(frozen=True)
class Stack(Kernel):
    """Arrays one after the other along a new axis, the first."""

    shape: tuple[str, ...]

    kind = "stack"

    def source(self, names: Sequence[str], size: Size) -> str:
        # One after the other along the axis that they have first: np.stack takes several times as long.
        aligned = [align(name, labels, self.output[1:]) for name, labels in zip(names, self.inputs, strict=True)]
        return f"np.concatenate(({', '.join(aligned)})).reshape({', '.join(self.shape)})"


@dataclass(frozen=True)
class Write(Kernel):
    """Add an operand (or a number) into a part of an array: axes split, a slice taken, then a diagonal."""

    labels: Labels = ()  # of the part before its diagonal is taken
    shape: tuple[str, ...] | None = None  # that splits the axes
    keys: tuple[str, ...] | None = None  # of the slice
    sign: str = "+="
    number: str | None = None  # in place of an operand

    kind = "diagonal"
    writes = True

    @property
    def title(self) -> str:
        return signature([self.inputs[1] if len(self.inputs) > 1 else ()], self.labels)

    @property
    def distinct(self) -> Labels:
        return tuple(dict.fromkeys(self.labels))

    def part(self, name: str) -> str:
        """The view of the array that is written."""
        if self.shape is not None:
            name += f".reshape{shape_text(self.shape)}"
        if self.keys is not None:
            name += f"[{', '.join(self.keys)}]"
        if len(self.distinct) < len(self.labels):
            return f'np.einsum("{signature([self.labels], self.distinct)}", {name})'
        return name

    def along(self, label: Label) -> bool:
        return self.shape is None and self.keys is None

    def source(self, names: Sequence[str], size: Size) -> str:
        part = self.part(names[0])
        if not self.labels and part == names[0]:
            part += "[()]"
        elif self.labels or "[" not in part:
            part += "[...]"
        value = self.number if self.number is not None else align(names[1], self.inputs[1], self.distinct)
        return f"{part} {self.sign} {value}"

    @property
    def takes_in_place(self) -> bool:
        """Whether what is written may be made in its place: it has the axes of the part, in their order."""
        return self.sign == "=" and bool(self.labels) and self.inputs[1:] == (self.distinct,)


@dataclass(frozen=True)
class Scatter(Kernel):
    """Add an operand (or a number) at lists of places, which may name a place several times: all are added.

    The operands after the array are the lists, one for each label of `gathered`; what is added comes last.
    """

    write: Write  # the part of the array, whose labels in `gathered` are those of the lists' entries
    gathered: Labels
    number: str | None = None  # in place of an operand

    kind = "diagonal"
    writes = True

    @property
    def rows(self) -> Labels:
        """The labels of the lists, along which the places of an entry are named together."""
        return tuple(dict.fromkeys(row for (row,) in self.inputs[1 : 1 + len(self.gathered)]))

    @property
    def beside(self) -> Labels:
        """The rows that are axes of the array too, gone through beside their places."""
        return tuple(label for label in self.write.distinct if label in self.rows)

    @property
    def rest(self) -> Labels:
        return tuple(label for label in self.write.distinct if label not in (*self.gathered, *self.beside))

    @property
    def added(self) -> Labels:
        """The labels of what is added."""
        return self.inputs[-1] if self.number is None else ()

    @property
    def title(self) -> str:
        return signature([self.added], [*self.gathered, *self.beside, *self.rest])

    def source(self, names: Sequence[str], size: Size) -> str:
        keys = []
        for place, label in enumerate((*self.gathered, *self.beside)):
            listed = place < len(self.gathered)
            row = self.inputs[1 + place][0] if listed else label
            after = len(self.rows) - 1 - self.rows.index(row)
            name = names[1 + place] if listed else f"np.arange({size(label)})"
            keys.append(name + (f"[:{', None' * after}]" if after else ""))
        part = self.write.part(names[0])
        places = [self.write.distinct.index(label) for label in (*self.gathered, *self.beside, *self.rest)]
        if places != sorted(places):
            part += f".transpose({', '.join(map(str, places))})"
        value = self.number
        if value is None:
            value = align(names[-1], self.added, (*self.rows, *self.rest))
        return f"np.add.at({part}, ({', '.join(keys)}{',' if len(keys) == 1 else ''}), {value})"
