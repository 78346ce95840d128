"""Functions of whole matrices: one record each, with the local Jacobian and where its rule comes from.

A stack of matrices is worked on matrix by matrix; the leading axes then carry a δ in the Jacobian.
"Cookbook" is The Matrix Cookbook (Petersen and Pedersen, 2012), by equation.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from tensordsl.contraction import contract
from tensordsl.dims import AnySize, Shape
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Expr, Primitive, array_functions
from tensordsl.functions.convert import as_expr, mismatch
from tensordsl.functions.elementwise import divide
from tensordsl.functions.record import PrimitiveRecord, functions, primitive_records
from tensordsl.labels import singles


def _inverse_jacobian(node: Expr, place: int) -> Expr:
    """∂Y_ij/∂A_kl = -Y_ik Y_lj for Y = A⁻¹."""
    batch = node.ndim - 2
    b = singles(range(batch))
    i, j, k, l = ((batch + n,) for n in range(4))
    size = node.shape[-1]
    sizes: dict[int, AnySize] = dict(enumerate(node.shape[:-2]))
    sizes.update(dict.fromkeys(range(batch, batch + 4), size))
    return contract(-1, [(node, (*b, i, k)), (node, (*b, l, j))], (*b, i, j, *b, k, l), sizes)


def _gradient_by_inverse(scale: Expr | None, matrix: Expr) -> Expr:
    """scale_b (A⁻¹)_lk as a Jacobian of shape (batch, batch, k, l)."""
    inverse = Primitive(inverse_record, (matrix,))
    batch = matrix.ndim - 2
    b = singles(range(batch))
    k, l = (batch,), (batch + 1,)
    factors = [(inverse, (*b, l, k))] + ([(scale, b)] if scale is not None else [])
    return contract(1, factors, (*b, *b, k, l), dict(enumerate(matrix.shape)))


def _norm_jacobian(node: Expr, place: int) -> Expr:
    return divide(node.children[0], node)


def _same(shape: Shape) -> Shape:
    return shape


inverse_record = PrimitiveRecord(
    "inv",
    1,
    "np.linalg.inv({0})",
    _same,
    _inverse_jacobian,
    "∂(X⁻¹)_ij/∂X_kl = −(X⁻¹)_ik (X⁻¹)_lj, Cookbook (60)",
    r"\operatorname{inv}",
    lambda *shape: 2 * shape[-1] ** 3,
    "invertible matrices",
)
det_record = PrimitiveRecord(
    "det",
    1,
    "np.linalg.det({0})",
    lambda shape: shape[:-2],
    lambda node, place: _gradient_by_inverse(node, node.children[0]),
    "∂det X/∂X = det(X) X⁻ᵀ, Cookbook (49)",
    r"\det",
    lambda *shape: shape[-1] ** 3,
    "invertible matrices",
)
logdet_record = PrimitiveRecord(
    "logdet",
    1,
    "np.linalg.slogdet({0})[1]",
    lambda shape: shape[:-2],
    lambda node, place: _gradient_by_inverse(None, node.children[0]),
    "∂log|det X|/∂X = X⁻ᵀ, Cookbook (57)",
    r"\log\det",
    lambda *shape: shape[-1] ** 3,
    "invertible matrices",
)
norm_record = PrimitiveRecord(
    "norm",
    1,
    "np.linalg.norm({0}.reshape(-1))",
    lambda shape: (),
    _norm_jacobian,
    "∂‖x‖/∂x = x/‖x‖, Cookbook (129)",
    r"\operatorname{norm}",
    lambda *shape: 2,
    "all but zero",
)

for _record in (inverse_record, det_record, logdet_record, norm_record):
    primitive_records[_record.name] = _record


def _square(what: str, a: object) -> Expr:
    node = as_expr(a)
    if node.ndim < 2 or node.shape[-1] != node.shape[-2]:
        raise mismatch(
            f"{what} takes a square matrix, or a stack of them.",
            [(node, True)],
            "The last two axes must have one size.",
            (node.shape[-2], node.shape[-1]) if node.ndim > 1 else None,
        )
    return node


def inv(a: object) -> Expr:
    """The inverse A⁻¹ of a square matrix: A[i,j] * inv(A)[j,k] = δ[i,k].

    Derivative: ∂Y[i,j]/∂A[k,l] = -Y[i,k] Y[l,j], Y = A⁻¹ (Cookbook 60). An inverse that is only multiplied is computed
    as the solution of a linear system. Raises `ShapeError` unless A is square, `BindError` when run on a singular A.

    >>> import tensordsl as td
    >>> td.linalg.inv(td.matrix("A", 3, 3)).shape
    (3, 3)
    """
    return Primitive(inverse_record, (_square("inv", a),))


def det(a: object) -> Expr:
    """The determinant of a square matrix, a scalar; of a stack of matrices, one for each.

    det(A) = Σ over permutations p of sign(p) A[0,p(0)] A[1,p(1)] ...; derivative ∂det(A)/∂A[k,l] = det(A) inv(A)[l,k]
    (Cookbook 49), for an invertible A. Raises `ShapeError` unless A is square.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 3, 3)
    >>> td.grad(td.linalg.det(A), A) == td.linalg.det(A) * td.linalg.inv(A).T
    True
    """
    return Primitive(det_record, (_square("det", a),))


def logdet(a: object) -> Expr:
    """The logarithm of the absolute determinant, log|det A|, a scalar; of a stack of matrices, one for each.

    Derivative: ∂logdet(A)/∂A[k,l] = inv(A)[l,k] (Cookbook 57). It neither overflows nor underflows where the
    determinant would. Raises `ShapeError` unless A is square.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 3, 3)
    >>> td.grad(td.logdet(A), A) == td.linalg.inv(A).T
    True
    """
    return Primitive(logdet_record, (_square("logdet", a),))


def solve(a: object, b: object) -> Expr:
    """The solution x of A x = b, for a vector or matrix b: out[i] = inv(A)[i,j] * b[j]; computed without the inverse
    where that stands in one product only and is not stacked.

    Derivative: dx = inv(A) (db - dA x), from that of the inverse (Cookbook 60). Raises `ShapeError` unless A is square
    and b has as many rows, `BindError` when run on a singular A.

    >>> import tensordsl as td
    >>> A, b = td.matrix("A", 3, 3), td.vector("b", 3)
    >>> print(td.jacobian(td.linalg.solve(A, b), b).to_string("matrix"))
    inv(A)
    """
    matrix, right = _square("solve", a), as_expr(b)
    if right.ndim == 0 or right.shape[-1 if right.ndim == 1 else -2] != matrix.shape[-1]:
        raise mismatch(
            "solve takes a square matrix and a right side with as many rows.",
            [(matrix, False), (right, True)],
            "Transpose the right side with .T.",
            (matrix.shape[-1], right.shape[-1 if right.ndim == 1 else -2]) if right.ndim else None,
        )
    return inv(matrix) @ right


def norm(a: object, ord: object = None) -> Expr:
    """The Euclidean norm of a vector, the Frobenius norm of a matrix, a scalar: sqrt of the sum of |a[i,...]|².

    Derivative: ∂‖a‖/∂a[i,...] = a[i,...]/‖a‖ (Cookbook 129); not differentiable at zero. Raises `UnsupportedError` for
    another `ord` than these.

    >>> import tensordsl as td
    >>> x = td.vector("x", 2)
    >>> print(td.grad(td.linalg.norm(x), x).to_string("matrix"))
    x/norm(x)
    >>> float(td.linalg.norm(x).evaluate(x=[3.0, 4.0]))
    5.0
    """
    node = as_expr(a)
    if ord is not None and not (ord == 2 and node.ndim == 1) and not (ord == "fro" and node.ndim == 2):
        raise UnsupportedError(
            f"linalg.norm with ord={ord!r} has no rule here; known: the Euclidean norm of a vector "
            "(ord=None or 2) and the Frobenius norm of a matrix (ord=None or 'fro')."
        )
    return Primitive(norm_record, (node,)) if node.ndim else functions["abs"](node)


linalg = SimpleNamespace(inv=inv, det=det, solve=solve, norm=norm)

_same_in_numpy: tuple[tuple[Any, Callable[..., Expr]], ...] = (
    (np.linalg.inv, inv),
    (np.linalg.det, det),
    (np.linalg.solve, solve),
    (np.linalg.norm, norm),
)
for _numpy, _own in _same_in_numpy:
    array_functions[_numpy] = _own
for _own in (inv, det, logdet, solve, norm):
    functions[_own.__name__] = _own
