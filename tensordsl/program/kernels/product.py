"""Products of two: a broadcast product, a product of matrices, or einsum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensordsl.labels import Label
from tensordsl.program.kernels.base import Count, Kernel, Labels, Size, align


@dataclass(frozen=True)
class Product(Kernel):
    """Two operands multiplied, and summed over the labels that the output lacks: out = Σ a b."""

    by_einsum: bool = False  # where its loops are better than those of a broadcast product or of BLAS
    by_halves: str = ""  # the name of the routine that computes half, where the result is its own transpose

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
        if self.by_halves:
            return f"{self.by_halves}({left}, {right})"
        product = f"{left} @ {right}"
        return product if self.folded is None else f"({product}).reshape({', '.join(map(size, self.output))})"

    def into(self, names: Sequence[str], size: Size, out: str) -> str | None:
        (la, lb), (a, b) = self.inputs, names
        if not self.output:  # a number, which is in no array
            return None
        if self.by_einsum:
            return f'np.einsum("{self.title}", {a}, {b}, out={out})'
        if self.entrywise:
            return f"np.multiply({align(a, la, self.output)}, {align(b, lb, self.output)}, out={out})"
        method = self._method()
        if method == "einsum":
            return f'np.einsum("{self.title}", {a}, {b}, out={out})'
        return self.into_folded(names, size, out) if method == "matmul" and self.folded is None else None

    @property
    def folded(self) -> tuple[Labels, ...] | None:
        """The labels of each axis of the product of matrices, where several of them are one axis there."""
        if self.loops or self._method() != "matmul":
            return None
        batch, rows, columns = self.free
        if len(rows) <= 1 and len(columns) <= 1:
            return None
        return (*((label,) for label in batch), *(group for group in (rows, columns) if group))

    def into_folded(self, names: Sequence[str], size: Size, out: str) -> str:
        """The call that writes the product of matrices into an array of the axes that it has."""
        left, right = self._matrices(names, size)
        return f"{self.by_halves or 'np.matmul'}({left}, {right}, out={out})"

    @property
    def packed(self) -> tuple[Labels, Labels]:
        """For each operand the order of axes that it is copied into; its own, where it is multiplied as it lies."""
        la, lb = self.inputs
        if self.loops or self._method() == "dot":
            return la, lb
        batch, rows, columns = self.free
        summed = summed_order(la, lb, self.output, batch)
        groups = (la, rows, summed), (lb, summed, columns)
        left, right = (
            (*batch, *first, *second) if is_packed(labels, batch, first, second) else labels
            for labels, first, second in groups
        )
        return left, right

    def hidden(self, count: Count) -> int:
        copies = sum(count(la) for la, order in zip(self.inputs, self.packed, strict=True) if la != order)
        return copies + (count(self.output) // 16 if self.by_halves else 0)  # one of four blocks of the diagonal

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
    def of_matrices(self) -> bool:
        """Whether it is one product of two matrices, its result a matrix."""
        batch, rows, columns = self.free
        return not self.loops and not batch and len(rows) == len(columns) == 1

    @property
    def packs_for_a_vector(self) -> bool:
        """Whether an operand would be copied to be multiplied by one that is summed over whole."""
        batch, rows, columns = self.free
        if batch or bool(rows) == bool(columns):
            return False
        la, lb = self.inputs
        return self.packed[0] != la if rows else self.packed[1] != lb

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
