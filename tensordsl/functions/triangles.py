"""Triangles of matrices: masks, and the entries below the diagonal as a vector."""

from __future__ import annotations

import numpy as np

from tensordsl.contraction import contract
from tensordsl.dims import AnySize, check_size, triangle, whole
from tensordsl.errors import ShapeError
from tensordsl.expr import Expr, Pattern, Primitive, Select
from tensordsl.functions.arranging import swapaxes
from tensordsl.functions.convert import as_expr, mismatch
from tensordsl.functions.operators import broadcast_to, multiply
from tensordsl.functions.record import PrimitiveRecord, primitive_records, public


def _tril_push(node: Expr, place: int, tangent: Expr) -> Expr:
    return Primitive(tril_record, (tangent,))


tril_record = PrimitiveRecord(
    "tril",
    1,
    "np.tril({0})",
    lambda shape: shape,
    "linear: the lower triangle of dA",
    r"\operatorname{tril}",
    push=_tril_push,
    pull=_tril_push,
    flops=lambda *shape: shape[-1],
)
primitive_records["tril"] = tril_record


@public(np.tril)
def tril(a: object, k: int = 0) -> Expr:
    """The lower triangle, zeros above the diagonal k: out[i,j] = A[i,j] where j <= i + k, else 0.

    Derivative: the mask of the triangle. Raises `ShapeError` for what has not two axes.

    >>> import tensordsl as td
    >>> td.tril(td.matrix("A", 2, 2)).evaluate(A=[[1.0, 2.0], [3.0, 4.0]])
    array([[1., 0.],
           [3., 4.]])
    """
    node = as_expr(a)
    if node.ndim < 2:
        raise mismatch("tril takes a matrix, or a stack of them.", [(node, True)], "Give it two axes.")
    if whole(k) is None:
        raise ShapeError(f"The diagonal k={k!r} of a triangle must be a whole number.")
    rows, columns = node.shape[-2:]
    ones = broadcast_to(as_expr(1), (rows + max(k, 0), columns + max(-k, 0)))
    mask = Primitive(tril_record, (ones,))
    return multiply(node, mask[k:, :] if k > 0 else mask[:, -k:] if k < 0 else mask)


@public(np.triu)
def triu(a: object, k: int = 0) -> Expr:
    """The upper triangle, zeros below the diagonal k: out[i,j] = A[i,j] where j >= i + k, else 0.

    Derivative: the mask of the triangle. Raises `ShapeError` for what has not two axes.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 3, 3)
    >>> td.triu(A) == td.tril(A.T).T
    True
    """
    node = as_expr(a)
    if node.ndim < 2:
        raise mismatch("triu takes a matrix, or a stack of them.", [(node, True)], "Give it two axes.")
    below = whole(k)
    return swapaxes(tril(swapaxes(node, -1, -2), k if below is None else -below), -1, -2)


def _selection(name: str, n: AnySize) -> Select:
    size = check_size(n)
    rows, columns = (size * size, triangle(size)) if name == "duplication" else (triangle(size), size)
    return Select(columns, 0, 1, rows, Pattern(name, size))


@public()
def vech_rows(n: AnySize) -> Expr:
    """The matrix that takes, for each entry of `vech`, its row: out[p,i] = 1 where entry p of vech stands in row i.

    With `vech_columns` it makes vech a contraction: vech(A)[p] = vech_rows(n)[p,i] vech_columns(n)[p,j] A[i,j]. Raises
    `ShapeError` for a size that is no size.

    >>> import tensordsl as td
    >>> td.vech_rows(2).evaluate()
    array([[1., 0.],
           [0., 1.],
           [0., 1.]])
    """
    return _selection("vech_rows", n)


@public()
def vech_columns(n: AnySize) -> Expr:
    """The matrix that takes, for each entry of `vech`, its column: out[p,j] = 1 where entry p stands in column j.

    Raises `ShapeError` for a size that is no size.

    >>> import tensordsl as td
    >>> td.vech_columns(2).evaluate()
    array([[1., 0.],
           [1., 0.],
           [0., 1.]])
    """
    return _selection("vech_columns", n)


@public()
def elimination(n: AnySize) -> Expr:
    """The elimination matrix L with L vec(A) = vech(A) for A of n rows and columns, n(n+1)/2 by n².

    L[p,(j,i)] is 1 where entry p of vech stands in row i and column j (Magnus and Neudecker, chapter 3). It takes
    entries, and is never stored. Raises `ShapeError` for a size that is no size.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 3, 3)
    >>> td.elimination(3) @ td.vec(A) == td.vech(A)
    True
    """
    size = check_size(n)
    rows, columns = _selection("vech_rows", size), _selection("vech_columns", size)
    return contract(
        1,
        [(rows, ((0,), (1,))), (columns, ((0,), (2,)))],
        ((0,), (2, 1)),
        {0: triangle(size), 1: size, 2: size},
    )


@public()
def duplication(n: AnySize) -> Expr:
    """The duplication matrix D with D vech(A) = vec(A) for a symmetric A of n rows and columns, n² by n(n+1)/2.

    D[(j,i),p] is 1 where entry p of vech is that in row i and column j, or its mirror (Magnus and Neudecker, chapter
    3). It takes entries, and is never stored. Raises `ShapeError` for a size that is no size.

    >>> import tensordsl as td
    >>> (td.duplication(2) @ td.vector("v", 3)).evaluate(v=[1.0, 2.0, 3.0])
    array([1., 2., 2., 3.])
    """
    return _selection("duplication", n)


@public()
def vech(a: object) -> Expr:
    """The lower triangle of a square matrix, its columns stacked: A[0,0], A[1,0], ..., A[1,1], A[2,1], ...

    n(n+1)/2 entries (Magnus and Neudecker, chapter 3). Derivative: the elimination matrix. Raises `ShapeError` unless A
    is a square matrix.

    >>> import tensordsl as td
    >>> td.vech(td.matrix("A", 2, 2)).evaluate(A=[[1.0, 2.0], [3.0, 4.0]])
    array([1., 3., 4.])
    """
    node = as_expr(a)
    if node.ndim != 2 or node.shape[0] != node.shape[1]:
        raise mismatch(
            "vech takes a square matrix.",
            [(node, True)],
            "Use vec for one that is not square.",
            (node.shape[0], node.shape[1]) if node.ndim == 2 else None,
        )
    flat = contract(1, [(node, ((0,), (1,)))], ((1, 0),), dict(enumerate(node.shape)))
    return elimination(node.shape[0]) @ flat
