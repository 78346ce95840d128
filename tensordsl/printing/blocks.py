"""Sums of pieces that lie side by side along an axis: what `concatenate`, `stack` and `block` made, found again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tensordsl.contraction import add_terms, as_operands, contract, is_structured, is_zero
from tensordsl.dims import AnySize, is_at_most
from tensordsl.expr import Expr, Select, Sum
from tensordsl.labels import flat

Cut = tuple[AnySize, AnySize]  # where a block begins and ends along an axis


class Placed(NamedTuple):
    """A term without its place along an axis, and that place."""

    cut: Cut
    node: Expr


class Blocks(NamedTuple):
    """Tensors one after the other along an axis."""

    axis: int
    pieces: tuple[Expr, ...]


def blocks(node: Expr) -> Blocks | None:
    """A tensor as pieces along an axis, the first one that is made of two or more."""
    for axis in range(node.ndim):
        cuts = cuts_of(node, axis)
        if cuts is not None:
            return Blocks(axis, tuple(cut_out(node, {axis: cut}) for cut in cuts))
    return None


def grid(node: Expr) -> list[list[Expr]]:
    """A matrix as rows of blocks, cut along the axes that are made of pieces."""
    rows, columns = ([{axis: cut} for cut in cuts_of(node, axis) or ()] or [{}] for axis in range(2))
    return [[cut_out(node, row | column) for column in columns] for row in rows]


def cuts_of(node: Expr, axis: int) -> list[Cut] | None:
    """Where the pieces of a tensor lie along an axis, and the gaps between them; None where it is not made of them."""
    found = [placed(term, axis) for term in terms_of(node)]
    cuts = {piece.cut for piece in found if piece is not None}
    tiles = tiled(cuts, node.shape[axis]) if None not in found else None
    if tiles is None or len(tiles) < 2 or (len(tiles) > len(cuts) and all(stop - start == 1 for start, stop in cuts)):
        return None  # of basis vectors, only all of them are blocks
    return tiles


def terms_of(node: Expr) -> tuple[Expr, ...]:
    return node.terms if isinstance(node, Sum) else (node,)


def tiled(cuts: Iterable[Cut], size: AnySize) -> list[Cut] | None:
    """Cuts in their order, the gaps between them filled; None where they overlap or have no order for all sizes."""
    left, tiles = list(cuts), []
    end: AnySize = 0
    while left:
        first = next((cut for cut in left if all(is_at_most(cut[0], other) for other, _ in left)), None)
        if first is None or not is_at_most(end, first[0]):
            return None
        tiles += [(end, first[0])] if end != first[0] else []
        tiles.append(first)
        left.remove(first)
        end = first[1]
    return [*tiles, *([(end, size)] if end != size else [])] if is_at_most(end, size) else None


def cut_out(node: Expr, place: Mapping[int, Cut]) -> Expr:
    """The block of a tensor at a place: zero where none of its terms is there."""
    terms = list(terms_of(node))
    for axis, cut in place.items():
        found = [placed(term, axis) for term in terms]
        terms = [piece.node for piece in found if piece is not None and piece.cut == cut]
    shape = [place[axis][1] - place[axis][0] if axis in place else size for axis, size in enumerate(node.shape)]
    return add_terms(terms, tuple(shape)) if place else node


def placed(term: Expr, axis: int) -> Placed | None:
    """A term that a selection puts at one place along an axis, without that selection."""
    coefficient, operands, output, sizes = as_operands(term)
    column = output[axis]
    if len(column) != 1 or flat(output).count(column[0]) > 1:
        return None
    holders = [operand for operand in operands if column[0] in flat(operand.slots)]
    select, slots = holders[0] if len(holders) == 1 else (None, ())
    if not isinstance(select, Select) or slots[-1] != column or select.positions is not None or select.step != 1:
        return None
    length = 1 if select.length is None else select.length
    row = () if select.length is None else slots[0]
    node = contract(
        coefficient,
        [operand for operand in operands if operand is not holders[0]],
        tuple(row if a == axis else group for a, group in enumerate(output)),
        {label: size for label, size in sizes.items() if label != column[0]},
    )
    return Placed((select.start, select.start + length), node)


def is_structure(node: Expr) -> bool:
    """Whether an expression is mostly zeros, which a δ says better than a block."""
    return is_zero(node) or is_structured(node)


def without_axis(node: Expr, axis: int) -> Expr:
    """A tensor without an axis of size one."""
    coefficient, operands, output, sizes = as_operands(node)
    return contract(coefficient, operands, (*output[:axis], *output[axis + 1 :]), sizes)
