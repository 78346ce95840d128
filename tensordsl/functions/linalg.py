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
from tensordsl.dims import AnySize, Shape, whole
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Expr, Primitive, array_functions
from tensordsl.functions import routines
from tensordsl.functions.choices import sign
from tensordsl.functions.convert import as_expr, identity, mismatch
from tensordsl.functions.elementwise import reciprocal
from tensordsl.functions.operators import add, broadcast_to
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


def _matrix_gradient(of: Expr) -> Expr:
    """The matrix M of a scalar whose derivative by X_kl is M_lk, as a Jacobian of shape (batch, batch, k, l)."""
    batch = of.ndim - 2
    b = singles(range(batch))
    k, l = (batch,), (batch + 1,)
    return contract(1, [(of, (*b, l, k))], (*b, *b, k, l), dict(enumerate(of.shape)))


def _det_jacobian(node: Expr, place: int) -> Expr:
    return _matrix_gradient(Primitive(adjugate_record, node.children))


def _logdet_jacobian(node: Expr, place: int) -> Expr:
    return _matrix_gradient(Primitive(inverse_record, node.children))


def _adjugate_jacobian(node: Expr, place: int) -> Expr:
    batch = node.ndim - 2
    b = singles(range(batch))
    i, j, k, l = ((batch + n,) for n in range(4))
    sizes: dict[int, AnySize] = dict(enumerate(node.shape[:-2]))
    sizes.update(dict.fromkeys(range(batch, batch + 4), node.shape[-1]))
    scale = (reciprocal(Primitive(det_record, node.children)), b)
    output = (*b, i, j, *b, k, l)
    first = contract(1, [scale, (node, (*b, i, j)), (node, (*b, l, k))], output, sizes)
    second = contract(-1, [scale, (node, (*b, i, k)), (node, (*b, l, j))], output, sizes)
    return add(first, second)


def _same(shape: Shape) -> Shape:
    return shape


def _without_matrix(shape: Shape) -> Shape:
    return shape[:-2]


inverse_record = PrimitiveRecord(
    "inv",
    1,
    "np.linalg.inv({0})",
    _same,
    "∂(X⁻¹)_ij/∂X_kl = −(X⁻¹)_ik (X⁻¹)_lj, Cookbook (60)",
    r"\operatorname{inv}",
    _inverse_jacobian,
    flops=lambda *shape: 2 * shape[-1] ** 3,
    domain="invertible matrices",
    symmetric=True,
)
det_record = PrimitiveRecord(
    "det",
    1,
    "np.linalg.det({0})",
    _without_matrix,
    "∂det X/∂X = adj(X)ᵀ, Jacobi's formula (Magnus and Neudecker, chapter 8); det(X) X⁻ᵀ for an invertible X",
    r"\det",
    _det_jacobian,
    flops=lambda *shape: shape[-1] ** 3,
)
logdet_record = PrimitiveRecord(
    "logdet",
    1,
    "np.linalg.slogdet({0})[1]",
    _without_matrix,
    "∂log|det X|/∂X = X⁻ᵀ, Cookbook (57)",
    r"\log\det",
    _logdet_jacobian,
    flops=lambda *shape: shape[-1] ** 3,
    domain="invertible matrices",
)
adjugate_record = PrimitiveRecord(
    "adjugate",
    1,
    "{adjugate}({0})",
    _same,
    "∂Y_ij/∂X_kl = (Y_ij Y_lk − Y_ik Y_lj)/det X for Y = adj X, from Y = det(X) X⁻¹, for an invertible X",
    r"\operatorname{adj}",
    _adjugate_jacobian,
    flops=lambda *shape: 20 * shape[-1] ** 3,
    symmetric=True,
    routines=(routines.adjugate,),
)
for _record in (inverse_record, det_record, logdet_record, adjugate_record):
    primitive_records[_record.name] = _record


def square_matrix(what: str, a: object) -> Expr:
    node = as_expr(a)
    if node.ndim < 2 or node.shape[-1] != node.shape[-2]:
        raise mismatch(
            f"{what} takes a square matrix, or a stack of them.",
            [(node, True)],
            "The last two axes must have one size.",
            (node.shape[-2], node.shape[-1]) if node.ndim > 1 else None,
            ((node, -2), (node, -1)) if node.ndim > 1 else (),
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
    return Primitive(inverse_record, (square_matrix("inv", a),))


def det(a: object) -> Expr:
    """The determinant of a square matrix, a scalar; of a stack of matrices, one for each.

    det(A) = Σ over permutations p of sign(p) A[0,p(0)] A[1,p(1)] ...; derivative ∂det(A)/∂A[k,l] = adjugate(A)[l,k]
    (Jacobi's formula), right for a singular A too. Raises `ShapeError` unless A is square.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 3, 3)
    >>> td.grad(td.linalg.det(A), A) == td.linalg.adjugate(A).T
    True
    """
    return Primitive(det_record, (square_matrix("det", a),))


def logdet(a: object) -> Expr:
    """The logarithm of the absolute determinant, log|det A|, a scalar; of a stack of matrices, one for each.

    Derivative: ∂logdet(A)/∂A[k,l] = inv(A)[l,k] (Cookbook 57). It neither overflows nor underflows where the
    determinant would. Raises `ShapeError` unless A is square.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 3, 3)
    >>> td.grad(td.logdet(A), A) == td.linalg.inv(A).T
    True
    """
    return Primitive(logdet_record, (square_matrix("logdet", a),))


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
    matrix, right = square_matrix("solve", a), as_expr(b)
    if right.ndim == 0 or right.shape[-1 if right.ndim == 1 else -2] != matrix.shape[-1]:
        raise mismatch(
            "solve takes a square matrix and a right side with as many rows.",
            [(matrix, False), (right, True)],
            "Transpose the right side with .T.",
            (matrix.shape[-1], right.shape[-1 if right.ndim == 1 else -2]) if right.ndim else None,
        )
    return inv(matrix) @ right


def slogdet(a: object) -> tuple[Expr, Expr]:
    """The sign of the determinant and the logarithm of its absolute value, as NumPy gives them.

    Derivative of the sign: zero; of the logarithm: inv(A)[l,k] (Cookbook 57). Raises `ShapeError` unless A is square.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 2, 2)
    >>> sign, value = td.linalg.slogdet(A)
    >>> value == td.logdet(A), float(sign.evaluate(A=[[0.0, 2.0], [3.0, 0.0]]))
    (True, -1.0)
    """
    return sign(det(a)), logdet(a)


def adjugate(a: object) -> Expr:
    """The adjugate of a square matrix, the transpose of its cofactors: A[i,j] * adjugate(A)[j,k] = det(A) δ[i,k].

    It needs no inverse. Derivative, for an invertible A: (Y[i,j] Y[l,k] - Y[i,k] Y[l,j])/det(A). Raises `ShapeError`
    unless A is square.

    >>> import tensordsl as td
    >>> td.linalg.adjugate(td.matrix("A", 2, 2)).evaluate(A=[[1.0, 2.0], [3.0, 4.0]]).round(12)
    array([[ 4., -2.],
           [-3.,  1.]])
    """
    return Primitive(adjugate_record, (square_matrix("adjugate", a),))


SHORT_POWER = 6  # factors up to which a power is written out


def matrix_power(a: object, n: int) -> Expr:
    """The product of n factors A: A @ A @ ...; the identity for n = 0, powers of the inverse for a negative n.

    Raises `ShapeError` unless A is square, `UnsupportedError` unless n is a whole number.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 3, 3)
    >>> td.linalg.matrix_power(A, 2) == A @ A, td.linalg.matrix_power(A, -1) == td.linalg.inv(A)
    (True, True)
    """
    node = square_matrix("matrix_power", a)
    count = whole(n)
    if count is None:
        raise UnsupportedError(f"matrix_power takes a whole number of factors, not {n!r}; expm and sqrtm are others.")
    base = inv(node) if count < 0 else node
    value: Expr | None = None
    if 0 < abs(count) <= SHORT_POWER:  # one product, whose factors are read and joined as any
        value = base
        for _ in range(abs(count) - 1):
            value = value @ base
        return value
    for bit in bin(abs(count))[2:]:  # square and multiply: products stay few
        value = None if value is None else value @ value
        if bit == "1":
            value = base if value is None else value @ base
    return broadcast_to(identity(node.shape[-1]), node.shape) if value is None else value


linalg = SimpleNamespace()


def of_matrices(function: Callable[..., Any], same: Any = None) -> None:
    """Register a function of matrices under its name, in `linalg` and for texts, as the meaning of NumPy's as well."""
    setattr(linalg, function.__name__, function)
    if not function.__name__.endswith(("slogdet", "eigh")):  # these give two values, of which a text has no notion
        functions[function.__name__] = function
    if same is not None:
        array_functions[same] = function


for _own, _numpy in (
    (inv, np.linalg.inv),
    (det, np.linalg.det),
    (slogdet, np.linalg.slogdet),
    (solve, np.linalg.solve),
    (matrix_power, np.linalg.matrix_power),
    (adjugate, None),
):
    of_matrices(_own, _numpy)
functions["logdet"] = logdet
