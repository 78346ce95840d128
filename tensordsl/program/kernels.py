"""What an instruction can be, and how each is written in NumPy.

A kernel knows the labels of its operands' axes and of its result's: an axis of an operand and one of the result with
the same label are gone through together, whatever the kernel does along the others. So everything that rearranges
programs (blocks, storage) reads the labels, and the text comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tensordsl.labels import Label

LETTERS = "ijklmnopqrstuvwxyzabcdefghABCDEFGHIJKLMNOPQRSTUVWXYZ"

Labels = tuple[Label, ...]
Size = Callable[[Label], str]  # the source of the size of a label
Count = Callable[[Sequence[Label]], int]  # how many entries an array with these labels has


def letters(labels: Sequence[Label], names: dict[Label, str]) -> str:
    return "".join(names.setdefault(label, LETTERS[len(names)]) for label in labels)


def signature(operands: Sequence[Sequence[Label]], output: Sequence[Label]) -> str:
    """The einsum text of a contraction, for people."""
    names: dict[Label, str] = {}
    left = ",".join(letters(labels, names) for labels in operands)
    return f"{left}->{letters(output, names)}"


def align(text: str, labels: Labels, order: Sequence[Label]) -> str:
    """The operand with its axes in `order`, an axis of size one for each label that it lacks."""
    present = [label for label in order if label in labels]
    if present != list(labels):
        text = (
            f"{text}.T"
            if present == list(labels)[::-1]
            else f"{text}.transpose({', '.join(str(labels.index(label)) for label in present)})"
        )
    missing = [label not in labels for label in order]
    while missing and missing[0]:  # NumPy adds axes at the left by itself
        missing.pop(0)
    if any(missing) and present:
        text = f"{text}[{', '.join('None' if gone else ':' for gone in missing)}]"
    return text


def shape_text(sizes: Sequence[str]) -> str:
    return "(" + "".join(f"{size}, " for size in sizes).rstrip(" ") + ")"


@dataclass(frozen=True)
class Kernel:
    """What one instruction does to operands whose axes carry labels."""

    inputs: tuple[Labels, ...]
    output: Labels

    kind: ClassVar[str] = ""
    writes: ClassVar[bool] = False  # it changes its first operand, which is its target
    views: ClassVar[bool] = False  # its result shares the storage of its operand

    @property
    def title(self) -> str:
        """What people read in a plan."""
        return signature(self.inputs, self.output)

    @property
    def entrywise(self) -> bool:
        """Whether entries of the result hang on the entries of operands in the same place alone."""
        return False

    def source(self, names: Sequence[str], size: Size) -> str:
        """The value, of operands that are called by `names`."""
        raise NotImplementedError

    def into(self, names: Sequence[str], size: Size, out: str) -> str | None:
        """The call that writes the value into `out`; None where NumPy has none."""
        return None

    def along(self, label: Label) -> bool:
        """Whether the kernel may be done piece by piece along a label."""
        return False

    def hidden(self, count: Count) -> int:
        """The entries of arrays that are made on the way, beside the result."""
        return 0


# --- products -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product(Kernel):
    """Two operands multiplied, and summed over the labels that the output lacks: out = Σ a b."""

    by_einsum: bool = False  # where its loops are better than those of a broadcast product or of BLAS

    kind = "contract"

    @property
    def summed(self) -> Labels:
        return tuple(label for label in self.inputs[0] if label not in self.output)

    @property
    def entrywise(self) -> bool:
        return not self.summed

    def along(self, label: Label) -> bool:
        return True

    def source(self, names: Sequence[str], size: Size) -> str:
        (la, lb), (a, b) = self.inputs, names
        if self.by_einsum:
            return f'np.einsum("{self.title}", {a}, {b})'
        if self.entrywise:
            return f"{align(a, la, self.output)} * {align(b, lb, self.output)}"
        method = self._method()
        if method == "dot":
            if len(self.summed) == 1:
                return f"{a} @ {b}"
            return f"np.dot({a}.reshape(-1), {b}.reshape(-1))"
        if method == "einsum":
            return f'np.einsum("{self.title}", {a}, {b})'
        left, right = self._matrices(names, size)
        batch, rows, columns = self.free
        product = f"{left} @ {right}"
        if len(rows) <= 1 and len(columns) <= 1 and ((rows and columns) or not batch):
            return product
        return f"({product}).reshape({', '.join(map(size, self.output))})"

    def into(self, names: Sequence[str], size: Size, out: str) -> str | None:
        (la, lb), (a, b) = self.inputs, names
        if self.by_einsum:
            return f'np.einsum("{self.title}", {a}, {b}, out={out})'
        if self.entrywise:
            return f"np.multiply({align(a, la, self.output)}, {align(b, lb, self.output)}, out={out})"
        method = self._method()
        if method == "einsum":
            return f'np.einsum("{self.title}", {a}, {b}, out={out})'
        batch, rows, columns = self.free
        if method == "matmul" and len(rows) <= 1 and len(columns) <= 1 and ((rows and columns) or not batch):
            left, right = self._matrices(names, size)
            return f"np.matmul({left}, {right}, out={out})"
        return None

    def hidden(self, count: Count) -> int:
        if self.loops:
            return 0
        (la, lb), (batch, rows, columns) = self.inputs, self.free
        if self._method() == "dot":
            return 0
        summed = summed_order(la, lb, self.output, batch)
        packed = [(la, rows, summed), (lb, summed, columns)]
        return sum(count(labels) for labels, first, second in packed if is_packed(labels, batch, first, second))

    @property
    def free(self) -> tuple[Labels, Labels, Labels]:
        """The labels of both operands, of the first alone and of the second alone, in the order of the output."""
        (la, lb), output = self.inputs, self.output
        return (
            tuple(label for label in output if label in la and label in lb),
            tuple(label for label in output if label not in lb),
            tuple(label for label in output if label not in la),
        )

    @property
    def loops(self) -> bool:
        """Whether NumPy's own loops do it, one thread of them, and not BLAS."""
        return self.entrywise or self.by_einsum or self._method() == "einsum"

    def _method(self) -> str:
        batch, rows, columns = self.free
        if batch and not (rows and columns):
            return "einsum"
        if rows or columns:
            return "matmul"
        return "dot" if self.inputs[0] == self.inputs[1] or len(self.summed) == 1 else "einsum"

    def _matrices(self, names: Sequence[str], size: Size) -> tuple[str, str]:
        """The operands as (stacks of) matrices, rows by summed and summed by columns; views where strides allow."""
        batch, rows, columns = self.free
        (la, lb), (a, b) = self.inputs, names
        summed = summed_order(la, lb, self.output, batch)
        return fold(a, la, batch, rows, summed, size), fold(b, lb, batch, summed, columns, size)


def summed_order(la: Labels, lb: Labels, output: Labels, batch: Labels) -> Labels:
    """The summed labels in the order that lets most operands be folded as they lie in memory."""
    orders = [tuple(label for label in labels if label not in output) for labels in (la, lb)]
    if orders[0] == orders[1] or len(orders[0]) == 1:
        return orders[0]
    lies = [lies_folded(labels, batch, order) for labels, order in zip((la, lb), orders, strict=True)]
    if lies[0] and lies[1]:
        return orders[0] if len(la) >= len(lb) else orders[1]
    return orders[1] if lies[1] else orders[0]


def lies_folded(labels: Labels, batch: Labels, together: Labels) -> bool:
    """Whether `together` are neighbours in memory behind the batch, so that they can be made one axis by a view."""
    rest = labels[len(batch) :]
    return labels[: len(batch)] == batch and (
        rest[: len(together)] == together or rest[len(rest) - len(together) :] == together
    )


def fold(text: str, labels: Labels, batch: Labels, first: Labels, second: Labels, size: Size) -> str:
    """The operand as matrices of `first` by `second`, the batch in front."""
    if len(first) <= 1 and len(second) <= 1:
        if batch and labels[-1] in batch:  # BLAS takes no matrix without an axis that lies entry by entry
            return f"np.ascontiguousarray({align(text, labels, (*batch, *first, *second))})"
        return align(text, labels, (*batch, *first, *second))
    groups = ["*".join(map(size, group)) for group in (first, second) if group]
    if labels == (*batch, *second, *first) and first and second:
        shape = ", ".join([*map(size, batch), *groups[::-1]])
        return f"{text}.reshape({shape}){'.mT' if batch else '.T'}"
    shape = ", ".join([*map(size, batch), *groups])
    return f"{align(text, labels, (*batch, *first, *second))}.reshape({shape})"


def is_packed(labels: Labels, batch: Labels, first: Labels, second: Labels) -> bool:
    """Whether `fold` makes a copy."""
    if len(first) <= 1 and len(second) <= 1:
        return bool(batch) and labels[-1] in batch
    return labels not in ((*batch, *first, *second), (*batch, *second, *first))


def product(la: Labels, lb: Labels, keep: Sequence[Label]) -> tuple[Product, bool]:
    """The product of two operands, and whether they change places in it.

    `keep` are the labels of the result in the order that is wanted, followed here as far as it costs nothing. Every
    other label stands in both operands.
    """
    result = tuple(label for label in keep if label in la or label in lb)
    summed = {label for label in (*la, *lb) if label not in result}
    if not summed:
        return Product((la, lb), result), False
    batch = tuple(label for label in result if label in la and label in lb)
    rows = tuple(label for label in la if label in result and label not in lb)
    columns = tuple(label for label in lb if label in result and label not in la)
    if batch and not (rows and columns):
        return Product((la, lb), result), False
    swapped = bool(result) and result[0] in columns and not batch
    if swapped:
        la, lb, rows, columns = lb, la, columns, rows
    if batch:
        # The order of the batch is that of an operand that need not be packed then.
        for labels in (la, lb):
            lead = tuple(label for label in labels if label in batch)
            if labels[: len(batch)] == lead:
                batch = lead
                break
    elif len(rows) > 1 or len(columns) > 1:
        wanted = [tuple(label for label in result if label in group) for group in (rows, columns)]
        if (*wanted[0], *wanted[1]) == result and la[: len(rows)] != rows and la[-len(rows) :] != rows:
            rows = wanted[0]
    return Product((la, lb), (*batch, *rows, *columns)), swapped


# --- entry by entry -----------------------------------------------------------------------------------------------


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


# --- the same entries, seen or laid otherwise ---------------------------------------------------------------------


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


# --- whole arrays -------------------------------------------------------------------------------------------------


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


# --- into an array that is there ----------------------------------------------------------------------------------


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
