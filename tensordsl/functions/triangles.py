"""Triangles of matrices: masks."""

from __future__ import annotations

import numpy as np

from tensordsl.expr import Expr, Primitive
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
    return swapaxes(tril(swapaxes(node, -1, -2), -k), -1, -2)
