"""Selections: which entries of an axis are taken, in which order, and what two of them take together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tensordsl.dims import AnySize, is_at_most
from tensordsl.expr import Expr, Select
from tensordsl.labels import Groups, Label, Unifier, flat


class Operand(NamedTuple):
    """A factor and the labels of its axes."""

    node: Expr
    slots: Groups


def is_whole(node: Select) -> bool:
    """Whether a slice takes everything in its order."""
    return node.length == node.axis_size and node.start == 0 and node.step == 1 and node.positions is None


def gathered(size: AnySize, positions: Sequence[int]) -> Select:
    """The selection of the entries at `positions`, a slice where they are one."""
    first, count = positions[0] if positions else 0, len(positions)
    step = positions[1] - first if count > 1 else 1
    if step and all(place == first + step * row for row, place in enumerate(positions)):
        return Select(size, first, step, count)
    return Select(size, 0, 1, count, tuple(positions))


def places_of(node: Select) -> Sequence[int] | None:
    """The positions that a selection takes, where they are numbers."""
    if isinstance(node.positions, tuple):
        return node.positions
    length = 1 if node.length is None else node.length
    if node.positions is not None or not isinstance(node.start, int) or not isinstance(length, int):
        return None
    return range(node.start, node.start + node.step * length, node.step)


def slice_of_slice(inner: Select, outer: Select) -> Select | None:
    """The one selection that takes `outer` of what `inner` takes; None where no one selection says that."""
    if inner.positions is not None or outer.positions is not None:
        known, taken = places_of(inner), places_of(outer)
        if known is None or taken is None:
            return None
        if outer.length is None:
            return Select(inner.axis_size, known[taken[0]])
        return gathered(inner.axis_size, [known[place] for place in taken])
    return Select(inner.axis_size, inner.start + outer.start * inner.step, inner.step * outer.step, outer.length)


class Overlap(NamedTuple):
    """What two selections of one axis both take, as selections of the rows of each and of the axis itself."""

    first: Select
    second: Select
    both: Select


def overlap(a: Select, b: Select) -> Overlap | bool | None:
    """The places that two selections have in common: False where there are none, None where that is not known."""
    if a.positions is not None or b.positions is not None:
        return _gathered_overlap(a, b)
    lengths = [1 if select.length is None else select.length for select in (a, b)]
    parts = (a.start, b.start, *lengths)
    if all(isinstance(part, int) for part in parts):
        rows = {a.start + a.step * row: row for row in range(lengths[0])}  # type: ignore[arg-type]
        found = [(rows[place], row) for row in range(lengths[1]) if (place := b.start + b.step * row) in rows]  # type: ignore[arg-type]
        if not found:
            return False
        (r, q), (r1, q1) = found[0], found[min(1, len(found) - 1)]
        steps, count = (r1 - r or 1, q1 - q or 1), len(found)
        return Overlap(
            Select(lengths[0], r, steps[0], count),
            Select(lengths[1], q, steps[1], count),
            Select(a.axis_size, a.start + a.step * r, a.step * steps[0], count),
        )
    if a.step != 1 or b.step != 1:
        return None
    ends = (a.start + lengths[0], b.start + lengths[1])
    if is_at_most(ends[0], b.start) or is_at_most(ends[1], a.start):
        return False
    start = b.start if is_at_most(a.start, b.start) else a.start if is_at_most(b.start, a.start) else None
    end = ends[0] if is_at_most(ends[0], ends[1]) else ends[1] if is_at_most(ends[1], ends[0]) else None
    if start is None or end is None or not is_at_most(start, end):
        return None
    length = end - start
    return Overlap(
        Select(lengths[0], start - a.start, 1, length),
        Select(lengths[1], start - b.start, 1, length),
        Select(a.axis_size, start, 1, length),
    )


def _gathered_overlap(a: Select, b: Select) -> Overlap | bool | None:
    """The overlap where one takes places by a list: pairs of rows that take the same one, which may be several."""
    first, second = places_of(a), places_of(b)
    if first is None or second is None:
        return None
    rows: dict[int, list[int]] = {}
    for row, place in enumerate(first):
        rows.setdefault(place, []).append(row)
    pairs = [(one, row) for row, place in enumerate(second) for one in rows.get(place, ())]
    if not pairs:
        return False
    return Overlap(
        gathered(len(first), [one for one, _ in pairs]),
        gathered(len(second), [two for _, two in pairs]),
        gathered(a.axis_size, [first[one] for one, _ in pairs]),
    )


def _meet(operands: list[Operand], unifier: Unifier) -> tuple[bool, list[Operand] | None]:
    """Two selections of one axis are one of what both take; None, the product is zero, where that is nothing."""
    on_axis: dict[Label, tuple[int, Select, Groups]] = {}
    for place, (node, slots) in enumerate(operands):
        if not isinstance(node, Select):
            continue
        *row, column = (unifier.resolve(group) for group in slots)
        if len(column) != 1 or any(len(group) != 1 or group == column for group in row):
            continue
        if column[0] not in on_axis:
            on_axis[column[0]] = (place, node, tuple(row))
            continue
        other, first, first_row = on_axis[column[0]]
        found = overlap(first, node)
        if found is None:
            continue
        if found is False:
            return True, None
        assert isinstance(found, Overlap)
        kept = [operand for n, operand in enumerate(operands) if n not in (other, place)]
        between = (unifier.fresh(found.both.length),)  # type: ignore[arg-type]
        for part, its_row in ((found.first, first_row), (found.second, tuple(row))):
            if its_row:
                kept.append(Operand(part, (between, its_row[0])))
        return True, [*kept, Operand(found.both, (between, column))]
    return False, operands


def tidy_selections(operands: list[Operand], output: Groups, unifier: Unifier) -> list[Operand] | None:
    """Drop selections that take everything or are summed away, and make two in a row, or on one axis, one.

    None where two of one axis take nothing in common, so that the product is zero. Ends, as each round leaves fewer
    selections, or fewer on one axis.
    """
    if not any(isinstance(node, Select) for node, _ in operands):
        return operands
    operands = list(operands)
    changed = True
    while changed:
        changed = False
        counts: dict[Label, int] = {}
        for groups in (output, *(slots for _, slots in operands)):
            for label in flat(tuple(unifier.resolve(group) for group in groups)):
                counts[label] = counts.get(label, 0) + 1
        for place, (node, slots) in enumerate(operands):
            if not isinstance(node, Select):
                continue
            *row, column = (unifier.resolve(group) for group in slots)
            if node.axis_size == 1:  # there is one place to take: every entry of S is one
                del operands[place]
                changed = True
                break
            if node.length == 1 and node.positions is None:  # one row: a basis vector
                operands[place] = Operand(Select(node.axis_size, node.start), (slots[1],))
                changed = True
                break
            if row and is_whole(node) and 1 in (len(row[0]), len(column)):
                unifier.unify(row[0], column)
                del operands[place]
                changed = True
                break
            if all(counts[label] == 1 for label in column):  # the sum of S over its columns is one for each row
                for label in column:
                    unifier.replace(label, ())
                del operands[place]
                changed = True
                break
            if len(column) != 1 or any(len(group) != 1 for group in row):
                continue
            if counts[column[0]] == 2:
                for other, (second, its_slots) in enumerate(operands):
                    if (
                        other != place
                        and isinstance(second, Select)
                        and second.length is not None
                        and unifier.resolve(its_slots[0]) == column
                        and (whole := slice_of_slice(second, node)) is not None
                    ):
                        operands[place] = Operand(whole, (*slots[:-1], its_slots[1]))
                        unifier.replace(column[0], ())
                        del operands[other]
                        changed = True
                        break
            if changed:
                break
        if not changed:
            changed, found = _meet(operands, unifier)
            if found is None:
                return None
            operands = found
    return operands
