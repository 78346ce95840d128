"""Functions of matrices by their spectrum: roots and exponentials, eigenvalues, factors.

Those of symmetric matrices are of the symmetric part (A + Aᵀ)/2 of their argument, so that the entries of A may be
varied independently and the answer is that of any function of A that is defined near the symmetric matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tensordsl.contraction import as_operands, contract
from tensordsl.dims import AnySize, Shape, is_at_most
from tensordsl.expr import Expr, Primitive
from tensordsl.functions import routines
from tensordsl.functions.arranging import concatenate
from tensordsl.functions.choices import equal
from tensordsl.functions.convert import as_expr, identity, mismatch
from tensordsl.functions.elementwise import divide, half
from tensordsl.functions.linalg import inv, of_matrices, square_matrix
from tensordsl.functions.operators import add, broadcast_shape, broadcast_to, matmul, multiply, subtract
from tensordsl.functions.record import PrimitiveRecord, primitive_records
from tensordsl.functions.triangles import tril
from tensordsl.labels import flat, singles


def turned(node: Expr) -> Expr:
    """Each matrix of a stack transposed, also of one that is declared symmetric: rules vary all its entries."""
    labels = list(range(node.ndim))
    output = (*labels[:-2], labels[-1], labels[-2])
    return contract(1, [(node, singles(labels))], singles(output), dict(enumerate(node.shape)))


def symmetric_part(node: Expr) -> Expr:
    """(A + Aᵀ)/2."""
    return half(add(node, turned(node)))


def _same(shape: Shape) -> Shape:
    return shape


def jacobian_of(node: Expr, argument: Expr, coefficient: int, *factors: tuple[Expr, str]) -> Expr:
    """A product of factors as a Jacobian; their axes after the stacked ones are named i, j (value), k, l (argument)."""
    rank = argument.ndim - 2
    b = singles(range(rank))
    letters = {letter: rank + place for place, letter in enumerate("ijklab")}
    sizes: dict[int, AnySize] = dict(enumerate(argument.shape[:-2]))
    for factor, names in factors:
        sizes.update({letters[n]: size for n, size in zip(names, factor.shape[rank:], strict=True)})
    value = [(letters[n],) for n in "ij"[: node.ndim - rank]]
    output = (*b, *value, *b, (letters["k"],), (letters["l"],))
    operands = [(factor, (*b, *[(letters[n],) for n in names])) for factor, names in factors]
    return contract(coefficient, operands, output, sizes)


def _stacked_identity(node: Expr) -> Expr:
    return broadcast_to(identity(node.shape[-1]), (*node.shape[:-2], node.shape[-1], node.shape[-1]))


def _pinv_jacobian(node: Expr, place: int) -> Expr:
    a = node.children[0]
    m, n = a.shape[-2:]
    rows = subtract(broadcast_to(identity(m), (*a.shape[:-2], m, m)), matmul(a, node))
    columns = subtract(broadcast_to(identity(n), (*a.shape[:-2], n, n)), matmul(node, a))
    terms = [
        jacobian_of(node, a, -1, (node, "ik"), (node, "lj")),
        jacobian_of(node, a, 1, (matmul(node, turned(node)), "il"), (rows, "kj")),
        jacobian_of(node, a, 1, (columns, "il"), (matmul(turned(node), node), "kj")),
    ]
    return add(add(terms[0], terms[1]), terms[2])


def _cholesky_jacobian(node: Expr, place: int) -> Expr:
    inverse = inv(node)
    n = node.shape[-1]
    lower = subtract(tril(broadcast_to(as_expr(1), (n, n))), half(identity(n)))
    lower = broadcast_to(lower, (*node.shape[:-2], n, n))
    return jacobian_of(node, node, 1, (node, "ia"), (lower, "aj"), (inverse, "ak"), (inverse, "jl"))


def _eigenvalues_jacobian(node: Expr, place: int) -> Expr:
    vectors = Primitive(eigenvectors_record, node.children)
    return jacobian_of(node, node.children[0], 1, (vectors, "ki"), (vectors, "li"))


def _eigenvectors_jacobian(node: Expr, place: int) -> Expr:
    """Where eigenvalues are equal the vectors are not differentiable; what they would divide by zero is left out."""
    values = Primitive(eigvalsh_record, node.children)
    gaps = subtract(values[..., None, :], values[..., :, None])
    alike = equal(gaps, 0)
    factor = divide(subtract(1, alike), add(gaps, alike))
    return jacobian_of(node, node.children[0], 1, (node, "ia"), (factor, "aj"), (node, "ka"), (node, "lj"))


def _expm_push(node: Expr, place: int, tangent: Expr) -> Expr:
    """exp of [[A, dA], [0, A]] is [[exp A, d exp A], [0, exp A]]; exp(A) dA where dA is a multiple of A."""
    if tangent.ndim == 2 and _matrix_of(tangent) is _matrix_of(node.children[0]):
        return matmul(tangent, node)
    return _corner(node.children[0], tangent)


def _expm_pull(node: Expr, place: int, adjoint: Expr) -> Expr:
    whole = turned(node)
    scale = multiple_of_identity(adjoint)
    if scale is not None:  # the identity commutes with A: the derivative of the trace is exp(A)ᵀ
        return multiply(scale[..., None, None], whole)
    return _corner(turned(node.children[0]), adjoint)


def _matrix_of(node: Expr) -> Expr:
    """A multiple of a matrix without the numbers and scalars that it is multiplied by."""
    _, operands, output, sizes = as_operands(node)
    rest = [operand for operand in operands if flat(operand.slots)]
    live = {label for groups in (output, *(slots for _, slots in rest)) for label in flat(groups)}
    return contract(1, rest, output, {label: size for label, size in sizes.items() if label in live})


def multiple_of_identity(node: Expr) -> Expr | None:
    """c where a stack of matrices is c times the identity, by its labels."""
    _, _, output, sizes = as_operands(node)
    (*batch, row, column) = output
    if row != column or len(row) != 1 or any(row[0] in group for group in batch):
        return None
    coefficient, operands, _, _ = as_operands(node)
    if any(row[0] in flat(slots) for _, slots in operands):
        return None
    return contract(coefficient, operands, tuple(batch), {la: size for la, size in sizes.items() if la != row[0]})


def _corner(a: Expr, direction: Expr) -> Expr:
    n = a.shape[-1]
    a = broadcast_to(a, direction.shape)
    zeros = broadcast_to(as_expr(0), a.shape)
    whole = concatenate([concatenate([a, direction], -1), concatenate([zeros, a], -1)], -2)
    return Primitive(expm_record, (whole,))[..., :n, n:]  # type: ignore[no-any-return]


def _sqrtm_push(node: Expr, place: int, tangent: Expr) -> Expr:
    return _sylvester(node, node, tangent)


def _sqrtm_pull(node: Expr, place: int, adjoint: Expr) -> Expr:
    return _sylvester(turned(node), turned(node), adjoint)


def _sylvester(a: Expr, b: Expr, c: Expr) -> Expr:
    stack = c.shape[:-2]
    return Primitive(
        sylvester_record, (broadcast_to(a, (*stack, *a.shape[-2:])), broadcast_to(b, (*stack, *b.shape[-2:])), c)
    )


def _sylvester_push(node: Expr, place: int, tangent: Expr) -> Expr:
    a, b, _ = node.children
    right = (lambda: -matmul(tangent, node), lambda: -matmul(node, tangent), lambda: tangent)[place]()
    return _sylvester(a, b, right)


def _sylvester_pull(node: Expr, place: int, adjoint: Expr) -> Expr:
    a, b, _ = node.children
    found = _sylvester(turned(a), turned(b), adjoint)
    return (lambda: -matmul(found, turned(node)), lambda: -matmul(turned(node), found), lambda: found)[place]()


class _Polar(NamedTuple):
    """What the rule of Q = U Vᵀ, A = U S Vᵀ, is made of; where A may be wide, V has not full rank."""

    shifted: Expr  # V S Vᵀ, and the identity where that is zero
    inside: Expr | None  # V Vᵀ, the identity unless A may be wide
    right: Expr  # V S⁻¹ Vᵀ
    left: Expr | None  # U S⁻¹ Uᵀ, needed where A may be wide


def _polar_parts(q: Expr) -> _Polar:
    a = q.children[0]
    h = matmul(turned(q), a)
    rows, columns = a.shape[-2:]
    if is_at_most(columns, rows):
        return _Polar(h, None, inv(h), None)
    inside, inverse = matmul(turned(q), q), pinv(a)
    shifted = add(h, subtract(identity(columns), inside))
    return _Polar(shifted, inside, matmul(inverse, q), matmul(q, inverse))


def _polar_push(node: Expr, place: int, tangent: Expr) -> Expr:
    """dQ = Q X + (I − Q Qᵀ) dA V S⁻¹ Vᵀ + U S⁻¹ Uᵀ dA (I − Qᵀ Q), with H X + X H = Qᵀ dA − dAᵀ Q, H = V S Vᵀ.

    The last term is zero unless A is wide; X is then sought among the matrices V Z Vᵀ.
    """
    parts = _polar_parts(node)
    inner = matmul(turned(node), tangent)
    skew = subtract(inner, turned(inner))
    if parts.inside is not None:
        skew = matmul(matmul(parts.inside, skew), parts.inside)
    moved = matmul(node, _sylvester(parts.shifted, parts.shifted, skew))
    moved = add(moved, matmul(subtract(tangent, matmul(node, inner)), parts.right))
    if parts.left is None or parts.inside is None:
        return moved
    beside = matmul(parts.left, tangent)
    return add(moved, subtract(beside, matmul(beside, parts.inside)))


def _polar_pull(node: Expr, place: int, adjoint: Expr) -> Expr:
    parts = _polar_parts(node)
    y = _sylvester(parts.shifted, parts.shifted, matmul(turned(node), adjoint))
    if parts.inside is not None:
        y = matmul(matmul(parts.inside, y), parts.inside)
    rest = matmul(adjoint, parts.right)
    found = add(matmul(node, subtract(y, turned(y))), subtract(rest, matmul(node, matmul(turned(node), rest))))
    if parts.left is None or parts.inside is None:
        return found
    beside = matmul(turned(parts.left), adjoint)
    return add(found, subtract(beside, matmul(beside, parts.inside)))


def cube(factor: int) -> Callable[..., Any]:
    return lambda *shape: factor * shape[-1] ** 3


pinv_record = PrimitiveRecord(
    "pinv",
    1,
    "np.linalg.pinv({0})",
    lambda shape: (*shape[:-2], shape[-1], shape[-2]),
    "dP = −P dA P + P Pᵀ dAᵀ (I − A P) + (I − P A) dAᵀ Pᵀ P, Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973)",
    r"\operatorname{pinv}",
    _pinv_jacobian,
    flops=cube(20),
    domain="matrices whose rank does not change nearby",
    symmetric=True,
)
cholesky_record = PrimitiveRecord(
    "cholesky",
    1,
    "np.linalg.cholesky({0})",
    _same,
    "dL = L Φ(L⁻¹ dA L⁻ᵀ), Φ the lower triangle with half the diagonal, Murray (2016), arXiv 1602.07527",
    r"\operatorname{chol}",
    _cholesky_jacobian,
    flops=lambda *shape: shape[-1] ** 3 // 3 if isinstance(shape[-1], int) else 0,
    domain="positive definite matrices",
)
eigvalsh_record = PrimitiveRecord(
    "eigvalsh",
    1,
    "np.linalg.eigvalsh({0})",
    lambda shape: shape[:-1],
    "dλ_i = v_iᵀ dA v_i, Magnus and Neudecker, chapter 8",
    r"\operatorname{eigvalsh}",
    _eigenvalues_jacobian,
    flops=cube(4),
    domain="symmetric matrices with distinct eigenvalues",
)
eigenvectors_record = PrimitiveRecord(
    "eigenvectors",
    1,
    "{eigenvectors}({0})",
    _same,
    "dV = V (F ∘ (Vᵀ dA V)), F_ij = 1/(λ_j − λ_i) for i ≠ j, Magnus and Neudecker, chapter 8",
    r"\operatorname{eigenvectors}",
    _eigenvectors_jacobian,
    flops=cube(9),
    domain="symmetric matrices with distinct eigenvalues",
    routines=(routines.eigenvectors,),
)
expm_record = PrimitiveRecord(
    "expm",
    1,
    "{expm}({0})",
    _same,
    "exp [[A, E], [0, A]] has the derivative of exp at A along E in its corner, Van Loan, IEEE TAC 23 (1978)",
    r"\operatorname{expm}",
    push=_expm_push,
    pull=_expm_pull,
    flops=cube(30),
    symmetric=True,
    routines=(routines.expm,),
)
sqrtm_record = PrimitiveRecord(
    "sqrtm",
    1,
    "{sqrtm}({0})",
    _same,
    "S dS + dS S = dA for S² = A, Higham, Functions of Matrices, chapter 6",
    r"\operatorname{sqrtm}",
    push=_sqrtm_push,
    pull=_sqrtm_pull,
    flops=cube(30),
    domain="matrices without eigenvalues on the closed negative real axis",
    symmetric=True,
    routines=(routines.sqrtm,),
)
sylvester_record = PrimitiveRecord(
    "solve_sylvester",
    3,
    "{solve_sylvester}({0}, {1}, {2})",
    lambda a, b, c: c,
    "A dX + dX B = dC − dA X − X dB for A X + X B = C",
    r"\operatorname{solve\_sylvester}",
    push=_sylvester_push,
    pull=_sylvester_pull,
    flops=cube(30),
    domain="A and −B without a common eigenvalue",
    routines=(routines.solve_sylvester,),
)
polar_record = PrimitiveRecord(
    "polar",
    1,
    "{polar}({0})",
    _same,
    "dQ = Q X + (I − Q Qᵀ) dA H⁺ + (H′)⁺ dA (I − Qᵀ Q), H X + X H = Qᵀ dA − dAᵀ Q for A = Q H = H′ Q, from Higham, "
    "Functions of Matrices, chapter 8",
    r"\operatorname{polar}",
    push=_polar_push,
    pull=_polar_pull,
    flops=cube(20),
    domain="matrices of full rank",
    routines=(routines.polar,),
)
for _record in (
    pinv_record,
    cholesky_record,
    eigvalsh_record,
    eigenvectors_record,
    expm_record,
    sqrtm_record,
    sylvester_record,
    polar_record,
):
    primitive_records[_record.name] = _record


def pinv(a: object) -> Expr:
    """The Moore-Penrose inverse of a matrix, or of each of a stack: (n, m) for an (m, n) matrix.

    Derivative: dP = -P dA P + P Pᵀ dAᵀ (I - A P) + (I - P A) dAᵀ Pᵀ P (Golub and Pereyra 1973), where the rank does not
    change. Raises `ShapeError` for what has not two axes.

    >>> import tensordsl as td
    >>> td.linalg.pinv(td.matrix("A", 2, 3)).shape
    (3, 2)
    """
    node = as_expr(a)
    if node.ndim < 2:
        raise mismatch("pinv takes a matrix, or a stack of them.", [(node, True)], "Give it two axes.")
    return Primitive(pinv_record, (node,))


def cholesky(a: object) -> Expr:
    """The lower triangular L with L Lᵀ = A, of the symmetric part (A + Aᵀ)/2 of a positive definite matrix.

    Derivative: dL = L Φ(L⁻¹ dA L⁻ᵀ), Φ the lower triangle with half the diagonal (Murray 2016). Raises `ShapeError`
    unless A is square, `BindError` when run on a matrix that is not positive definite.

    >>> import tensordsl as td
    >>> td.linalg.cholesky(td.matrix("A", 2, 2)).evaluate(A=[[4.0, 2.0], [2.0, 5.0]])
    array([[2., 0.],
           [1., 2.]])
    """
    return Primitive(cholesky_record, (symmetric_part(square_matrix("cholesky", a)),))


def eigvalsh(a: object) -> Expr:
    """The eigenvalues of the symmetric part (A + Aᵀ)/2 of a matrix, in ascending order.

    Derivative: dλ[i] = v_iᵀ dA v_i (Magnus and Neudecker, chapter 8), for distinct eigenvalues. Raises `ShapeError`
    unless A is square.

    >>> import tensordsl as td
    >>> td.linalg.eigvalsh(td.matrix("A", 2, 2)).evaluate(A=[[2.0, 1.0], [1.0, 2.0]])
    array([1., 3.])
    """
    return Primitive(eigvalsh_record, (symmetric_part(square_matrix("eigvalsh", a)),))


def eigenvectors(a: object) -> Expr:
    """The eigenvectors of the symmetric part of a matrix, one in each column, in the order of `eigvalsh`.

    Each is determined up to its sign. Derivative: dV = V (F ∘ (Vᵀ dA V)), F[i,j] = 1/(λ[j] - λ[i]) off the diagonal
    (Magnus and Neudecker, chapter 8), for distinct eigenvalues. Raises `ShapeError` unless A is square.

    >>> import tensordsl as td
    >>> td.linalg.eigenvectors(td.matrix("A", 3, 3)).shape
    (3, 3)
    """
    return Primitive(eigenvectors_record, (symmetric_part(square_matrix("eigenvectors", a)),))


def eigh(a: object) -> tuple[Expr, Expr]:
    """The eigenvalues and eigenvectors of the symmetric part of a matrix, as NumPy gives them.

    Raises `ShapeError` unless A is square.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 3, 3)
    >>> td.linalg.eigh(A) == (td.linalg.eigvalsh(A), td.linalg.eigenvectors(A))
    True
    """
    return eigvalsh(a), eigenvectors(a)


def expm(a: object) -> Expr:
    """The exponential of a square matrix, or of each of a stack: I + A + A²/2 + A³/6 + ...

    Derivative along E: the corner of exp [[A, E], [0, A]] (Van Loan 1978). Raises `ShapeError` unless A is square.

    >>> import tensordsl as td
    >>> td.linalg.expm(td.matrix("A", 2, 2)).evaluate(A=[[0.0, 1.0], [0.0, 0.0]])
    array([[1., 1.],
           [0., 1.]])
    """
    return Primitive(expm_record, (square_matrix("expm", a),))


def sqrtm(a: object) -> Expr:
    """The principal square root of a matrix, or of each of a stack: sqrtm(A) @ sqrtm(A) = A.

    Derivative: S dS + dS S = dA (Higham, Functions of Matrices, chapter 6), a Sylvester equation. Raises `ShapeError`
    unless A is square.

    >>> import tensordsl as td
    >>> td.linalg.sqrtm(td.matrix("A", 2, 2)).evaluate(A=[[4.0, 0.0], [0.0, 9.0]])
    array([[2., 0.],
           [0., 3.]])
    """
    return Primitive(sqrtm_record, (square_matrix("sqrtm", a),))


def solve_sylvester(a: object, b: object, c: object) -> Expr:
    """The solution X of A X + X B = C, for matrices or stacks of them; with B = Aᵀ, of Lyapunov's equation.

    Derivative: A dX + dX B = dC - dA X - X dB. Raises `ShapeError` where the shapes do not go together.

    >>> import tensordsl as td
    >>> A, C = td.matrix("A", 3, 3), td.matrix("C", 3, 3)
    >>> td.linalg.solve_sylvester(A, A.T, C).shape
    (3, 3)
    """
    left, right, whole = square_matrix("solve_sylvester", a), square_matrix("solve_sylvester", b), as_expr(c)
    sides = (left.shape[-1], right.shape[-1])
    if whole.ndim < 2 or whole.shape[-2:] != sides:
        pairs = [(p, q) for p, q in zip(whole.shape[-2:], sides, strict=False) if p != q]
        raise mismatch(
            f"solve_sylvester takes a right side of {sides[0]} rows and {sides[1]} columns.",
            [(left, False), (right, False), (whole, True)],
            "A X + X B = C: A has the rows of C, B its columns.",
            pairs[0] if pairs and whole.ndim >= 2 else None,
        )
    stack = broadcast_shape([left[..., 0, 0], right[..., 0, 0], whole[..., 0, 0]], "solve_sylvester")
    return _sylvester(left, right, broadcast_to(whole, (*stack, *sides)))


def polar(a: object) -> Expr:
    """The factor Q of A = Q H with orthonormal columns (or rows), H positive semidefinite: U V of A = U S V.

    Derivative, for a tall A: dQ = Q X + (I - Q Qᵀ) dA H⁻¹, H X + X H = Qᵀ dA - dAᵀ Q (Higham, Functions of Matrices,
    chapter 8), for full rank. Raises `ShapeError` for what has not two axes.

    >>> import tensordsl as td
    >>> td.linalg.polar(td.matrix("A", 2, 2)).evaluate(A=[[2.0, 0.0], [0.0, -3.0]])
    array([[ 1.,  0.],
           [ 0., -1.]])
    """
    node = as_expr(a)
    if node.ndim < 2:
        raise mismatch("polar takes a matrix, or a stack of them.", [(node, True)], "Give it two axes.")
    rows, columns = node.shape[-2:]
    if isinstance(rows, int) and isinstance(columns, int) and rows < columns:
        return turned(Primitive(polar_record, (turned(node),)))
    return Primitive(polar_record, (node,))


for _own, _numpy in (
    (pinv, np.linalg.pinv),
    (cholesky, np.linalg.cholesky),
    (eigvalsh, np.linalg.eigvalsh),
    (eigh, np.linalg.eigh),
    (eigenvectors, None),
    (expm, None),
    (sqrtm, None),
    (solve_sylvester, None),
    (polar, None),
):
    of_matrices(_own, _numpy)
