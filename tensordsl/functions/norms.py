"""Norms of vectors and matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensordsl.errors import UnsupportedError
from tensordsl.expr import Expr, Primitive
from tensordsl.functions.analytic import sqrt
from tensordsl.functions.choices import abs_, not_equal
from tensordsl.functions.convert import as_expr, axis_numbers, check_flag, mismatch
from tensordsl.functions.elementwise import divide, power
from tensordsl.functions.linalg import of_matrices
from tensordsl.functions.multilinear import sum_, transpose
from tensordsl.functions.operators import matmul, multiply
from tensordsl.functions.record import PrimitiveRecord, primitive_records
from tensordsl.functions.reductions import max_, min_
from tensordsl.functions.spectral import cube, eigvalsh, jacobian_of, polar, turned


def _nuclear_jacobian(node: Expr, place: int) -> Expr:
    a = node.children[0]
    factor = polar(a)
    return jacobian_of(node, a, 1, (factor, "kl"))


def _norm_jacobian(node: Expr, place: int) -> Expr:
    return divide(node.children[0], node)


norm_record = PrimitiveRecord(
    "norm",
    1,
    "np.linalg.norm(np.reshape({0}, -1))",
    lambda shape: (),
    "∂‖x‖/∂x = x/‖x‖, Cookbook (129)",
    r"\operatorname{norm}",
    _norm_jacobian,
    flops=lambda *shape: 2,
    domain="all but zero",
)
nuclear_record = PrimitiveRecord(
    "nuclear_norm",
    1,
    'np.linalg.norm({0}, ord="nuc", axis=(-2, -1))',
    lambda shape: shape[:-2],
    "∂‖A‖_*/∂A = U Vᵀ for A = U S Vᵀ of full rank, Watson, Linear Algebra Appl. 170 (1992)",
    r"\operatorname{norm}_*",
    _nuclear_jacobian,
    flops=cube(10),
    domain="matrices of full rank",
)
for _record in (norm_record, nuclear_record):
    primitive_records[_record.name] = _record


def norm(a: object, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Expr:
    """NumPy's norm. Of all entries when neither `ord` nor `axis` is given: sqrt of the sum of |a[i,...]|².

    For a vector, or along one axis: `ord` 2 (or None), 1, any number p, inf, -inf. For a matrix, or a pair of axes:
    "fro" (or None), "nuc", 2 (the largest singular value), 1, inf and -inf, -1 (of column or row sums). Derivative of
    the Euclidean norm: a[i,...]/‖a‖ (Cookbook 129); norms are not differentiable at zero. Raises `UnsupportedError` for
    another `ord`, `ShapeError` for an axis that is not there.

    >>> import tensordsl as td
    >>> x = td.vector("x", 2)
    >>> print(td.grad(td.linalg.norm(x), x).to_string("matrix"))
    x/norm(x)
    >>> float(td.linalg.norm(x).evaluate(x=[3.0, 4.0])), float(td.linalg.norm(x, ord=1).evaluate(x=[3.0, -4.0]))
    (5.0, 7.0)
    """
    node = as_expr(a)
    check_flag(keepdims, "keepdims")
    if not isinstance(ord, int | float | str | None):
        raise UnsupportedError(f"norm with ord={ord!r}: expected a number, 'fro', 'nuc' or None.")
    if ord is None and axis is None:
        found = Primitive(norm_record, (node,)) if node.ndim else abs_(node)
        return found[(None,) * node.ndim] if keepdims and node.ndim else found
    places = axis_numbers(axis, node, "norm")
    if axis is None and ord == 2 and node.ndim == 1 and not keepdims:
        return norm(node)
    if axis is None and ord == "fro" and node.ndim == 2 and not keepdims:
        return norm(node)
    if len(places) not in (1, 2):
        raise mismatch(
            f"norm with ord={ord!r} is of a vector or a matrix.", [(node, True)], "Name one axis, or a pair of axes."
        )
    moved = transpose(node, [*(p for p in range(node.ndim) if p not in places), *places])
    value = _vector_norm(moved, ord) if len(places) == 1 else _matrix_norm(moved, ord)
    if keepdims:
        return value[tuple(None if p in places else slice(None) for p in range(node.ndim))]  # type: ignore[no-any-return]
    return value


def _vector_norm(node: Expr, ord: Any) -> Expr:
    """The norm along the last axis."""
    if ord is None or ord == 2:
        return sqrt(sum_(multiply(node, node), -1))
    if isinstance(ord, int | float) and not isinstance(ord, bool):
        if ord in (np.inf, -np.inf):
            return (max_ if ord > 0 else min_)(abs_(node), -1)
        if ord == 0:
            return sum_(not_equal(node, 0), -1)
        if ord == 1:
            return sum_(abs_(node), -1)
        return power(sum_(power(abs_(node), ord), -1), power(as_expr(ord), -1))
    raise UnsupportedError(f"norm with ord={ord!r} has no rule for vectors; known are None, any number, inf and -inf.")


def _matrix_norm(node: Expr, ord: Any) -> Expr:
    """The norm of the last two axes."""
    if ord is None or ord == "fro":
        return sqrt(sum_(multiply(node, node), (-2, -1)))
    if ord == "nuc":
        return Primitive(nuclear_record, (node,))
    if isinstance(ord, int | float) and ord in (1, -1, np.inf, -np.inf):
        sums = sum_(abs_(node), -2 if abs(ord) == 1 else -1)
        return (max_ if ord > 0 else min_)(sums, -1)
    if ord == 2:
        gram = matmul(turned(node), node)
        return sqrt(eigvalsh(gram)[..., -1])
    raise UnsupportedError(
        f"norm with ord={ord!r} has no rule for matrices; known are None, 'fro', 'nuc', 2, 1, -1, inf and -inf."
    )


of_matrices(norm, np.linalg.norm)
