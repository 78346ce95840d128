"""Axes and blocks: the same entries in another shape, or several tensors in one: contractions and sums of them.

A block of a larger tensor is placed there by a selection matrix, whose transpose takes it out again, so that products
of block matrices are multiplied block by block, and derivatives are blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensordsl.contraction import add_terms, contract
from tensordsl.dims import AnySize, Shape, check_size, divide, product, whole
from tensordsl.errors import UnsupportedError, show_shape
from tensordsl.expr import Expr, Select, operation
from tensordsl.functions.convert import as_expr, axis_numbers, mismatch, one_axis, plain
from tensordsl.functions.multilinear import transpose
from tensordsl.functions.operators import broadcast_shape, broadcast_to
from tensordsl.functions.record import public
from tensordsl.labels import singles


@operation("reshape")
@public(np.reshape)
def reshape(a: object, shape: Any, order: str = "C") -> Expr:
    """The entries in another shape, read and written with the last axis fastest; with the first, for order="F".

    One size may be -1, and follows from the others. Where the sizes of one shape factor into those of the other it is
    labels only. Raises `ShapeError` where the shapes have not as many entries.

    >>> import tensordsl as td
    >>> k, m = td.dims("k m")
    >>> A = td.matrix("A", k, m)
    >>> td.reshape(A, (k * m,)) == td.vec(A.T)
    True
    >>> td.reshape(td.reshape(A, -1), (k, m)) == A
    True
    """
    node = as_expr(a)
    given = shape if isinstance(shape, tuple | list) else (shape,)
    if not isinstance(order, str):
        raise UnsupportedError(f"reshape with order={order!r}: the order is 'C' or 'F'.")
    if order == "F":
        turned = tuple(reversed(given))
        return transpose(reshape(transpose(node), turned))
    if order != "C":
        raise mismatch(f"reshape with order={order!r}.", [(node, True)], "The order is 'C' or 'F'.")
    total = product(node.shape)
    open_places = [place for place, size in enumerate(given) if isinstance(size, int) and size == -1]
    sizes = [1 if place in open_places else check_size(size) for place, size in enumerate(given)]
    if len(open_places) == 1:
        rest = divide(total, product(sizes)) if product(sizes) != 0 else None
        if rest is not None:
            sizes[open_places[0]] = rest
    if len(open_places) > 1 or product(sizes) != total:
        raise mismatch(
            f"Cannot reshape {total} entries to {show_shape(tuple(given))}.",
            [(node, True)],
            "The sizes must multiply to the number of entries; one of them may be -1.",
            (total, product(sizes)) if not open_places else None,
        )
    flat = contract(1, [(node, plain(node))], (tuple(range(node.ndim)),), dict(enumerate(node.shape)))
    labels = tuple(range(len(sizes)))
    return contract(1, [(flat, (labels,))], singles(labels), dict(enumerate(sizes)))


@operation("ravel")
@public(np.ravel)
def ravel(a: object, order: str = "C") -> Expr:
    """All entries as a vector, the last axis fastest: out[(i,j)] = A[i,j]; `vec` has the first one fastest.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 2, 3)
    >>> td.ravel(A) == td.vec(A.T), td.ravel(A, order="F") == td.vec(A)
    (True, True)
    """
    return reshape(a, -1, order)


@operation("swapaxes")
@public(np.swapaxes)
def swapaxes(a: object, axis1: int, axis2: int) -> Expr:
    """Two axes exchanged: out[k,j,i] = T[i,j,k] for the axes 0 and 2.

    Raises `ShapeError` for an axis that is not there.

    >>> import tensordsl as td
    >>> td.swapaxes(td.tensor("T", 2, 3, 4), 0, -1).shape
    (4, 3, 2)
    """
    node = as_expr(a)
    first, second = one_axis(axis1, node, "swapaxes"), one_axis(axis2, node, "swapaxes")
    order = list(range(node.ndim))
    order[first], order[second] = second, first
    return transpose(node, order)


@public(np.moveaxis)
def moveaxis(a: object, source: Any, destination: Any) -> Expr:
    """An axis at another place, the others in their order: out[j,k,i] = T[i,j,k] for the axis 0 moved to the end.

    Several axes are moved by two lists. Raises `ShapeError` for an axis that is not there.

    >>> import tensordsl as td
    >>> td.moveaxis(td.tensor("T", 2, 3, 4), 0, -1).shape
    (3, 4, 2)
    """
    node = as_expr(a)
    starts, ends = axis_numbers(source, node, "moveaxis"), axis_numbers(destination, node, "moveaxis")
    if len(starts) != len(ends):
        raise mismatch(
            f"moveaxis of {len(starts)} axes to {len(ends)} places.", [(node, True)], "Name a place for each axis."
        )
    order = [place for place in range(node.ndim) if place not in starts]
    for end, start in sorted(zip(ends, starts, strict=True)):
        order.insert(end, start)
    return transpose(node, order)


@public(np.expand_dims)
def expand_dims(a: object, axis: Any) -> Expr:
    """New axes of size one at the places `axis` of the result: out[i,0,j] = A[i,j] for axis 1.

    Raises `ShapeError` for a place that is not there.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.expand_dims(x, 1) == x[:, None]
    True
    """
    node = as_expr(a)
    places = axis if isinstance(axis, tuple | list) else (axis,)
    ndim = node.ndim + len(places)
    for place in places:
        if whole(place) is None or not -ndim <= place < ndim:
            raise mismatch(f"expand_dims: there is no place {place!r}.", [(node, True)], f"Places end at {ndim - 1}.")
    wanted = {place % ndim for place in places}
    if len(wanted) < len(places):
        raise mismatch(f"expand_dims: a place is named twice in {axis}.", [(node, True)], "Name each place once.")
    return node[tuple(None if place in wanted else slice(None) for place in range(ndim))]  # type: ignore[no-any-return]


@operation("squeeze")
@public(np.squeeze)
def squeeze(a: object, axis: Any = None) -> Expr:
    """Without the axes of size one; with `axis`, without those named: out[i] = A[i,0].

    Raises `ShapeError` where an axis named has another size.

    >>> import tensordsl as td
    >>> td.squeeze(td.matrix("A", 3, 1)).shape
    (3,)
    """
    node = as_expr(a)
    if axis is None:
        gone = tuple(place for place, size in enumerate(node.shape) if size == 1)
    else:
        gone = axis_numbers(axis, node, "squeeze")
    for place in gone:
        if node.shape[place] != 1:
            raise mismatch(
                f"squeeze: axis {place} has the size {node.shape[place]}, not 1.",
                [(node, True)],
                "Name axes of size one, or take an entry with A[0].",
                (node.shape[place], 1),
            )
    return node[tuple(0 if place in gone else slice(None) for place in range(node.ndim))]  # type: ignore[no-any-return]


def placed(node: Expr, axis: int, start: AnySize, size: AnySize) -> Expr:
    """A tensor of zeros that is longer along an axis, with `node` in it from `start` on."""
    if node.shape[axis] == size:
        return node
    labels, output = list(range(node.ndim)), list(range(node.ndim))
    output[axis] = node.ndim
    sizes: dict[int, AnySize] = {**dict(enumerate(node.shape)), node.ndim: size}
    select = Select(size, start, 1, node.shape[axis])
    return contract(1, [(node, singles(labels)), (select, ((axis,), (node.ndim,)))], singles(output), sizes)


@public(np.concatenate)
def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Expr:
    """Tensors one after the other along an axis: out[i] = x[i] for i < len(x), then y[i - len(x)], ...

    With None all entries of each follow, in their order.
    Raises `ShapeError` where the other axes differ in size, `UnsupportedError` for no tensor at all.

    >>> import tensordsl as td
    >>> x, y = td.vector("x", 2), td.vector("y", 3)
    >>> td.concatenate([x, y]).evaluate(x=[1.0, 2.0], y=[3.0, 4.0, 5.0])
    array([1., 2., 3., 4., 5.])
    >>> td.concatenate([x, y])[2:] == y
    True
    """
    nodes = _several(arrays, "concatenate")
    if axis is None:
        nodes, axis = [ravel(node) for node in nodes], 0
    first = nodes[0]
    if first.ndim == 0:
        raise mismatch("concatenate takes tensors with an axis.", [(first, True)], "Use td.stack for scalars.")
    place = one_axis(axis, first, "concatenate")
    for node in nodes[1:]:
        for other in range(first.ndim) if node.ndim == first.ndim else ():
            if other != place and node.shape[other] != first.shape[other]:
                raise mismatch(
                    f"concatenate along axis {place}: axis {other} has the sizes {first.shape[other]} and "
                    f"{node.shape[other]}.",
                    [(first, False), (node, True)],
                    "All other axes must have one size.",
                    (first.shape[other], node.shape[other]),
                )
        if node.ndim != first.ndim:
            raise mismatch(
                f"concatenate takes tensors with as many axes: here {first.ndim} and {node.ndim}.",
                [(first, False), (node, True)],
                "Add an axis with x[None] or x[:, None].",
            )
    total: AnySize = 0
    starts = []
    for node in nodes:
        starts.append(total)
        total = total + node.shape[place]
    shape: Shape = (*first.shape[:place], total, *first.shape[place + 1 :])
    return add_terms([placed(node, place, start, total) for node, start in zip(nodes, starts, strict=True)], shape)


def _several(arrays: Any, what: str) -> list[Expr]:
    if isinstance(arrays, Expr) or not isinstance(arrays, tuple | list) or not arrays:
        given = "nothing" if isinstance(arrays, tuple | list) else repr(arrays)
        raise mismatch(f"{what} takes a list of tensors; given was {given}.", [], f"Write {what}([x, y]).")
    return [as_expr(array) for array in arrays]


@operation("stack")
@public(np.stack)
def stack(arrays: Sequence[Any], axis: int = 0) -> Expr:
    """Tensors of one shape along a new axis: out[0,i] = x[i], out[1,i] = y[i].

    Raises `ShapeError` where the shapes differ.

    >>> import tensordsl as td
    >>> x, y = td.vector("x", 3), td.vector("y", 3)
    >>> td.stack([x, y])[1] == y, td.stack([x, y], axis=1).shape
    (True, (3, 2))
    """
    nodes = _several(arrays, "stack")
    for node in nodes[1:]:
        if node.shape != nodes[0].shape:
            pairs = [(p, q) for p, q in zip(nodes[0].shape, node.shape, strict=False) if p != q]
            raise mismatch(
                "stack takes tensors of one shape.",
                [(nodes[0], False), (node, True)],
                "Use td.concatenate along an axis that they have.",
                pairs[0] if pairs and node.ndim == nodes[0].ndim else None,
            )
    return concatenate([expand_dims(node, axis) for node in nodes], axis)


@public(np.block)
def block(rows: Sequence[Any]) -> Expr:
    """A matrix of blocks, given by rows: block([[A, B], [C, D]]); one row of blocks without the inner brackets.

    A scalar or a number fills its block. Raises `ShapeError` where the blocks of a row differ in their rows, or those
    of a column in their columns.

    >>> import tensordsl as td
    >>> A, B = td.matrix("A", 2, 2), td.matrix("B", 2, 3)
    >>> M = td.block([[A, B], [td.zeros(3, 2), td.identity(3)]])
    >>> M.shape, M[:2, 2:] == B
    ((5, 5), True)
    """
    nested = [row if isinstance(row, tuple | list) else [row] for row in _rows(rows)]
    nodes = [[_matrix(as_expr(entry)) for entry in row] for row in nested]
    heights = [_extent([node.shape[0] for node in row]) for row in nodes]
    widths = [_extent([row[c].shape[1] for row in nodes if c < len(row)]) for c in range(max(map(len, nodes)))]
    if len({len(row) for row in nodes}) > 1:  # rows that are split in other places: each is whole in itself
        return concatenate([concatenate(row, 1) for row in nodes], 0)

    def filled(node: Expr, height: AnySize, width: AnySize) -> Expr:
        return broadcast_to(node[0, 0], (height, width)) if node.shape == (1, 1) else node

    whole = [
        concatenate([filled(node, height, width) for node, width in zip(row, widths, strict=True)], 1)
        for row, height in zip(nodes, heights, strict=True)
    ]
    return concatenate(whole, 0)


def _rows(rows: Any) -> Any:
    if isinstance(rows, Expr) or not isinstance(rows, tuple | list) or not rows:
        raise mismatch("block takes rows of blocks.", [], "Write block([[A, B], [C, D]]).")
    return rows if any(isinstance(row, tuple | list) for row in rows) else [rows]


def _matrix(node: Expr) -> Expr:
    if node.ndim > 2:
        raise mismatch("block takes matrices.", [(node, True)], "Use td.concatenate along the axis that is meant.")
    return node if node.ndim == 2 else node[(None,) * (2 - node.ndim)]


def _extent(sizes: Sequence[AnySize]) -> AnySize:
    return next((size for size in sizes if size != 1), 1)


@public()
def block_diag(*matrices: Any) -> Expr:
    """The matrix with the given ones along its diagonal and zeros elsewhere.

    Raises `ShapeError` for what is no matrix.

    >>> import tensordsl as td
    >>> A, B = td.matrix("A", 2, 3), td.matrix("B", 4, 5)
    >>> M = td.block_diag(A, B)
    >>> M.shape, M[2:, 3:] == B, M[:2, 3:] == td.zeros(2, 5)
    ((6, 8), True, True)
    """
    nodes = [_matrix(node) for node in _several(list(matrices), "block_diag")]
    rows: AnySize = 0
    columns: AnySize = 0
    starts = []
    for node in nodes:
        starts.append((rows, columns))
        rows, columns = rows + node.shape[0], columns + node.shape[1]
    placed_blocks = [
        placed(placed(node, 0, row, rows), 1, column, columns)
        for node, (row, column) in zip(nodes, starts, strict=True)
    ]
    return add_terms(placed_blocks, (rows, columns))


@public(np.broadcast_to)
def broadcast(a: object, shape: Any) -> Expr:
    """The tensor repeated to a shape: labels only, nothing is copied. out[i,j] = x[j].

    Raises `ShapeError` where it does not broadcast to that shape.

    >>> import tensordsl as td
    >>> print(td.broadcast(td.vector("x", 3), (2, 3)))
    x[j] -> [i:2,j]
    """
    node = as_expr(a)
    sizes = tuple(check_size(size) for size in (shape if isinstance(shape, tuple | list) else (shape,)))
    ones = broadcast_to(as_expr(1), sizes)
    if broadcast_shape([ones, node], "Cannot broadcast") != sizes:
        raise mismatch(f"Cannot broadcast to {show_shape(sizes)}.", [(node, True)], "Give a shape with its axes last.")
    return broadcast_to(node, sizes)
