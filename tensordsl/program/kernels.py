"""How one pairwise contraction is done in NumPy: broadcast multiply, matrix product, tensordot, batched matmul, einsum.

Everything here is text: the source of one expression over operands whose axes carry labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tensordsl.labels import Label

LETTERS = "ijklmnopqrstuvwxyzabcdefghABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Labelled(NamedTuple):
    """A source text and the labels of its axes."""

    source: str
    labels: tuple[Label, ...]


def letters(labels: Sequence[Label], names: dict[Label, str]) -> str:
    return "".join(names.setdefault(label, LETTERS[len(names)]) for label in labels)


def signature(operands: Sequence[Sequence[Label]], output: Sequence[Label]) -> str:
    """The einsum text of a contraction, for people."""
    names: dict[Label, str] = {}
    left = ",".join(letters(labels, names) for labels in operands)
    return f"{left}->{letters(output, names)}"


def align(operand: Labelled, order: Sequence[Label]) -> str:
    """The operand with its axes in `order`, an axis of size one for each label that it lacks."""
    source, labels = operand
    present = [label for label in order if label in labels]
    if present != list(labels):
        source = (
            f"{source}.T"
            if present == list(labels)[::-1]
            else f"{source}.transpose({', '.join(str(labels.index(label)) for label in present)})"
        )
    missing = [label not in labels for label in order]
    while missing and missing[0]:  # NumPy adds axes at the left by itself
        missing.pop(0)
    if any(missing) and present:
        source = f"{source}[{', '.join('None' if gone else ':' for gone in missing)}]"
    return source


def pair(
    a: Labelled, b: Labelled, keep: Sequence[Label], size: Callable[[Label], str]
) -> tuple[str, tuple[Label, ...], bool]:
    """Source and labels of the contraction of two operands, and whether it is a plain multiplication.

    `keep` are the labels of the result in the order that is wanted, followed here as far as it costs nothing. Every
    other label stands in both operands.
    """
    result = [label for label in keep if label in a.labels or label in b.labels]
    summed = [label for label in a.labels if label in b.labels and label not in keep]
    batch = [label for label in result if label in a.labels and label in b.labels]
    if not summed:
        return f"{align(a, result)} * {align(b, result)}", tuple(result), True
    rows = [label for label in a.labels if label in keep and label not in b.labels]
    columns = [label for label in b.labels if label in keep and label not in a.labels]
    if result and result[0] in columns and not batch:
        a, b, rows, columns = b, a, columns, rows
    if not batch:
        if not rows and not columns:
            if len(summed) == 1:
                return f"{a.source} @ {b.source}", (), False
            if a.labels == b.labels:
                return f"np.dot({a.source}.reshape(-1), {b.source}.reshape(-1))", (), False
        elif len(summed) == 1 and len(rows) <= 1 and len(columns) <= 1:
            left, right = align(a, [*rows, *summed]), align(b, [*summed, *columns])
            return f"{left} @ {right}", (*rows, *columns), False
        else:
            axes = ([a.labels.index(s) for s in summed], [b.labels.index(s) for s in summed])
            free = (*(la for la in a.labels if la not in summed), *(lb for lb in b.labels if lb not in summed))
            return f"np.tensordot({a.source}, {b.source}, {axes})", free, False
    elif rows and columns:
        left, right = align(a, [*batch, *rows, *summed]), align(b, [*batch, *summed, *columns])

        def fold(text: str, *groups: Sequence[Label]) -> str:
            if all(len(group) == 1 for group in groups):
                return text
            shape = [size(label) for label in batch] + ["*".join(size(label) for label in group) for group in groups]
            return f"{text}.reshape({', '.join(shape)})"

        product = f"{fold(left, rows, summed)} @ {fold(right, summed, columns)}"
        if len(rows) > 1 or len(columns) > 1:
            shape = ", ".join(size(label) for label in (*batch, *rows, *columns))
            product = f"({product}).reshape({shape})"
        return product, (*batch, *rows, *columns), False
    names: dict[Label, str] = {}
    text = f"{letters(a.labels, names)},{letters(b.labels, names)}->{letters(result, names)}"
    return f'np.einsum("{text}", {a.source}, {b.source})', tuple(result), False


def path(
    operands: Sequence[frozenset[Label]], keep: frozenset[Label], sizes: Mapping[Label, int], mergeable: Sequence[bool]
) -> list[tuple[int, int]]:
    """Pairs to contract in turn, the result of each put last; `mergeable` says which may be multiplied at once."""
    if len(operands) <= 2:
        return [(0, 1)] * (len(operands) - 1)
    everything = frozenset().union(*operands)
    if everything <= keep:
        return _products(operands, sizes)
    # Operands on the same labels are multiplied first: nothing grows, and one contraction serves both.
    for q in range(len(operands)):
        for p in range(q):
            if operands[p] == operands[q] and mergeable[p] and mergeable[q]:
                joined = [*(o for n, o in enumerate(operands) if n not in (p, q)), operands[p]]
                flags = [*(m for n, m in enumerate(mergeable) if n not in (p, q)), True]
                return [(p, q), *path(joined, keep, sizes, flags)]
    import opt_einsum.paths

    found = opt_einsum.paths.get_path_fn("auto")(list(operands), keep, dict(sizes))
    pairs: list[tuple[int, int]] = []
    for step in found:
        if len(step) == 2:
            pairs.append((min(step), max(step)))
        elif len(step) > 2:  # several operands at once: in turn, the last result with the next
            first, second, *rest = sorted(step)
            pairs.append((first, second))
            gone = [first, second]
            count = len(operands) - len(pairs)
            for other in rest:
                shifted = other - sum(g < other for g in gone)
                pairs.append((shifted, count))
                gone.append(other)
                count -= 1
    return pairs


def _products(operands: Sequence[frozenset[Label]], sizes: Mapping[Label, int]) -> list[tuple[int, int]]:
    """A product without sums: the smallest results first, so that full-sized arrays are passed over once."""

    def volume(labels: frozenset[Label]) -> int:
        count = 1
        for label in labels:
            count *= sizes[label]
        return count

    rest, pairs = list(operands), []
    while len(rest) > 1:
        _, _, p, q = min(
            (volume(rest[p] | rest[q]), volume(rest[p]) + volume(rest[q]), p, q)
            for p in range(len(rest))
            for q in range(p + 1, len(rest))
        )
        pairs.append((p, q))
        joined = rest[p] | rest[q]
        rest = [labels for place, labels in enumerate(rest) if place not in (p, q)] + [joined]
    return pairs
