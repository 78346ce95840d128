"""Selections as a text has them: slices, lists of positions, and the δ of a position."""

from __future__ import annotations

from collections.abc import Sequence

from tensordsl.contraction import Operand
from tensordsl.expr import Pattern, Select
from tensordsl.labels import Label, flat
from tensordsl.notation import tree as t
from tensordsl.printing.names import size_tree

Names = tuple[str, ...]


def slices_of(operands: Sequence[Operand], named: dict[Label, Names]) -> dict[Label, tuple[Select, Label | None]]:
    """The summed labels that a selection takes from one other factor, which is then written as a slice."""
    counts: dict[Label, int] = {}
    for _, slots in operands:
        for label in flat(slots):
            counts[label] = counts.get(label, 0) + 1
    found: dict[Label, tuple[Select, Label | None]] = {}
    for node, slots in operands:
        if isinstance(node, Select) and all(len(group) == 1 for group in slots):
            column = slots[-1][0]
            other = [f for f, s in operands if f is not node and (column,) in s]
            if isinstance(node.positions, Pattern):
                continue
            if column not in named and counts[column] == 2 and len(other) == 1 and not isinstance(other[0], Select):
                found[column] = (node, None if node.length is None else slots[0][0])
    return found


def pattern_tree(pattern: Pattern) -> t.Tree:
    """The matrix of a pattern, by its name: `duplication(n)`."""
    return t.Call(pattern.name, (size_tree(pattern.size),))


def slice_tree(select: Select) -> t.Tree:
    """`start:stop:step`, ends left out where they are the ends of the axis; or a list of positions."""
    if isinstance(select.positions, tuple):
        return t.Items(tuple(t.Number(place) for place in select.positions))
    assert select.length is not None
    last = select.start + (select.length - 1) * select.step
    if select.step > 0:
        stop = last + 1
        begin = None if select.start == 0 else size_tree(select.start)
        end = None if stop == select.axis_size else size_tree(stop)
    else:
        begin = None if select.start == select.axis_size - 1 else size_tree(select.start)
        end = None if last == 0 else size_tree(last - 1)
    return t.Slice(begin, end, None if select.step == 1 else size_tree(select.step))


def position_tree(select: Select, row: str | None) -> t.Tree:
    """The position that a row of a selection takes: `2*r + 1`, or `[0, 2, 2][r]`."""
    if isinstance(select.positions, tuple) and row is not None:
        return t.Subscript(t.Items(tuple(t.Number(place) for place in select.positions)), (t.Name(row),))
    start: list[tuple[int, t.Tree]] = [(1, size_tree(select.start))]
    whole = start[0][1]
    if isinstance(whole, t.Sum):
        start = list(whole.terms)
    if row is None:  # k + 0 is the position k, where δ[i,k] would name an index
        return t.Sum(((1, whole), (1, t.Number(0)))) if isinstance(whole, t.Name) else whole
    size = abs(select.step)
    moving: t.Tree = t.Name(row) if size == 1 else t.Product("*", (t.Number(size), t.Name(row)))
    if select.step < 0:
        return t.Sum((*start, (-1, moving)))
    return t.Sum(((1, moving), *start))  # + 0 is written too: the axes differ in size, so that this is no plain δ
