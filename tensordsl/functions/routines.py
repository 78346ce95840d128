"""What programs call beside NumPy: each function is whole in itself, since `to_python` hands its source on.

SciPy is imported where it is used, so that a program without these functions needs NumPy alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def prod_others(x: Any) -> Any:
    """The product of all other entries along the last axis, also of zeros: those before it times those after."""
    one = np.ones_like(x[..., :1])
    before = np.cumprod(np.concatenate([one, x[..., :-1]], axis=-1), axis=-1)
    after = np.flip(np.cumprod(np.concatenate([one, np.flip(x[..., 1:], axis=-1)], axis=-1), axis=-1), axis=-1)
    return before * after


def logsumexp(x: Any) -> Any:
    """log of the sum of exp(x) along the last axis, the largest entry taken out first."""
    top = np.max(x, axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(x - top), axis=-1)) + top[..., 0]


def adjugate(a: Any) -> Any:
    """det(A) inv(A) by singular values, which need not differ from zero: adj(U S V) = adj(V) adj(S) adj(U)."""
    u, s, v = np.linalg.svd(a)
    one = np.ones_like(s[..., :1])
    before = np.cumprod(np.concatenate([one, s[..., :-1]], axis=-1), axis=-1)
    after = np.flip(np.cumprod(np.concatenate([one, np.flip(s[..., 1:], axis=-1)], axis=-1), axis=-1), axis=-1)
    scale = (np.linalg.det(u) * np.linalg.det(v))[..., None, None]
    left, right = np.conj(np.matrix_transpose(v)), np.conj(np.matrix_transpose(u))
    return scale * (left * (before * after)[..., None, :]) @ right


def eigenvectors(a: Any) -> Any:
    """The eigenvectors of a symmetric matrix, one in each column, in the order of `eigvalsh`."""
    return np.linalg.eigh(a)[1]


def polar(a: Any) -> Any:
    """The nearest matrix with orthonormal columns (or rows): U V of the singular value decomposition U S V."""
    u, _, v = np.linalg.svd(a, full_matrices=False)
    return u @ v


def expm(a: Any) -> Any:
    """The exponential of matrices."""
    import scipy.linalg

    return scipy.linalg.expm(a)


def sqrtm(a: Any) -> Any:
    """The principal square root of matrices."""
    import scipy.linalg

    return np.vectorize(scipy.linalg.sqrtm, signature="(n,n)->(n,n)")(a)


def solve_sylvester(a: Any, b: Any, c: Any) -> Any:
    """The solution X of A X + X B = C, for matrices or stacks of them; an error where that has none."""
    import scipy.linalg

    def solve(a: Any, b: Any, c: Any) -> Any:
        x = scipy.linalg.solve_sylvester(a, b, c)
        if np.any(np.abs(a @ x + x @ b - c) > 1e-3 * np.max(np.abs(c))):
            raise np.linalg.LinAlgError("A and -B have an eigenvalue in common")
        return x

    return np.vectorize(solve, signature="(n,n),(m,m),(n,m)->(n,m)")(a, b, c)


def erf(x: Any) -> Any:
    """The error function."""
    import scipy.special

    return scipy.special.erf(x)


def lgamma(x: Any) -> Any:
    """log|Γ(x)|."""
    import scipy.special

    return scipy.special.gammaln(x)


def digamma(x: Any) -> Any:
    """The derivative of log Γ(x)."""
    import scipy.special

    return scipy.special.digamma(x)


def polygamma(n: Any, x: Any) -> Any:
    """The derivative of order n + 1 of log Γ(x)."""
    import scipy.special

    return scipy.special.polygamma(n, x)


def vech_rows(n: int) -> Any:
    """The rows of the lower triangle of a matrix, column by column."""
    return np.triu_indices(n)[1]


def vech_columns(n: int) -> Any:
    """The columns of the lower triangle of a matrix, column by column."""
    return np.triu_indices(n)[0]


def duplication(n: int) -> Any:
    """For each entry of a symmetric matrix, its place in the lower triangle, column by column."""
    places = np.zeros((n, n), dtype=np.int64)
    columns, rows = np.triu_indices(n)
    places[columns, rows] = places[rows, columns] = np.arange(len(rows))
    return places.reshape(-1)


def symmetric_product(a: Any, b: Any, out: Any = None) -> Any:
    """The product of two matrices where that is its own transpose, a little more than half of it computed.

    It is made in four strips of rows, each from the diagonal on, and what lies below the diagonal is copied.
    """
    n = len(a)
    if out is None:
        out = np.empty((n, n), np.result_type(a, b))
    for strip in range(4):
        start, stop = n * strip // 4, n * (strip + 1) // 4
        np.matmul(a[start:stop], b[:, start:], out=out[start:stop, start:])
        out[stop:, start:stop] = out[start:stop, stop:].T
        block = out[start:stop, start:stop]
        np.copyto(block, block.T, where=np.tri(stop - start, k=-1, dtype=bool))
    return out


def lu(a: Any) -> Any:
    """The triangular factors of a matrix and its exchanged rows, to solve with several times."""
    import scipy.linalg

    if not a.size:  # which LAPACK complains of
        return a, np.zeros(0, np.int32)
    factors, rows, _ = scipy.linalg.get_lapack_funcs(("getrf",), (a,))[0](a)
    if not np.all(np.diagonal(factors)):
        raise np.linalg.LinAlgError("Singular matrix")
    return factors, rows


def lu_solve(factors: Any, b: Any, transposed: bool = False) -> Any:
    """The solution of a system, or of that with the transposed matrix, by its factors."""
    import scipy.linalg

    return scipy.linalg.lu_solve(factors, b, trans=1 if transposed else 0, check_finite=False)


def cholesky(a: Any) -> Any:
    """The Cholesky factor of a symmetric positive definite matrix, to solve with."""
    import scipy.linalg

    return scipy.linalg.cho_factor(a, check_finite=False)


def cholesky_solve(factor: Any, b: Any) -> Any:
    """The solution of a symmetric positive definite system by its Cholesky factor."""
    import scipy.linalg

    return scipy.linalg.cho_solve(factor, b, check_finite=False)
