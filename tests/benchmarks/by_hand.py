"""The references: what an expert writes in NumPy and SciPy for one workload, knowing its structure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import scipy.linalg as sl
import scipy.sparse as sp
from scipy.special import expit, softmax

Array = np.ndarray


def row_blocks(rows: int, entries_of_a_row: int) -> Iterator[slice]:
    """Slices of rows that stay in the cache of a core: 32,768 entries are 256 kB."""
    step = max(1, 32_768 // entries_of_a_row)
    return (slice(start, start + step) for start in range(0, rows, step))


@cache
def workspace(*shape: int) -> Array:
    return np.zeros(shape)


# -------------------------------------------------------------------------------- A ∘ xxᵀ and its derivative


def flagship_jacobian(A: Array, x: Array) -> Array:
    result = np.zeros((len(x),) * 3)
    np.multiply(A, x, out=np.einsum("iji->ij", result))  # writable views of two diagonals
    at_column = np.einsum("ijj->ij", result)
    at_column += A * x[:, None]
    return result


def flagship_jacobian_reused(A: Array, x: Array) -> Array:
    """In storage that was filled before: its structural zeros are zero already."""
    result = workspace(*(len(x),) * 3)
    np.multiply(A, x, out=np.einsum("iji->ij", result))
    np.multiply(A, x[:, None], out=np.einsum("ijj->ij", result))
    np.einsum("iii->i", result)[...] *= 2
    return result


def flagship_jvp(A: Array, x: Array, v: Array) -> Array:
    result = np.empty_like(A)
    for rows in row_blocks(*A.shape):
        block = np.multiply(v[rows, None], x, out=result[rows])
        block += x[rows, None] * v
        block *= A[rows]
    return result


def flagship_vjp(A: Array, x: Array, W: Array) -> Array:
    result = np.zeros_like(x)
    for rows in row_blocks(*A.shape):
        weighted = A[rows] * W[rows]
        result[rows] += weighted @ x
        result += x[rows] @ weighted
    return result


def flagship_coo(A: Array, x: Array) -> sp.coo_array:
    size = len(x)
    row, column = (axis.ravel() for axis in np.indices(A.shape, dtype=np.int32))
    values = np.concatenate([(A * x).ravel(), (A * x[:, None]).ravel()])
    places = np.tile(row, 2), np.tile(column, 2), np.concatenate([row, column])
    return sp.coo_array((values, places), shape=(size,) * 3)


@cache
def flagship_pattern(size: int) -> tuple[Array, Array]:
    """Columns and row starts of ∂vec(A ∘ xxᵀ)/∂xᵀ. Row (j, i) has the columns i and j, in order."""
    columns = np.empty((size, 2 * size - 1), dtype=np.int32)
    every = np.arange(size, dtype=np.int32)
    for j, line in enumerate(columns):
        line[0 : 2 * j : 2], line[1 : 2 * j : 2] = every[:j], j
        line[2 * j] = j
        line[2 * j + 1 :: 2], line[2 * j + 2 :: 2] = j, every[j + 1 :]
    lengths = 2 - np.eye(size, dtype=np.int32).ravel()
    return columns.ravel(), np.concatenate([[0], np.cumsum(lengths, dtype=np.int32)]).astype(np.int32)


def flagship_csr(A: Array, x: Array) -> sp.csr_array:
    size = len(x)
    columns, starts = flagship_pattern(size)
    values = np.empty((size, 2 * size - 1))
    for j, line in enumerate(values):
        column = A[:, j].copy()
        np.multiply(column[:j], x[j], out=line[0 : 2 * j : 2])
        np.multiply(column[:j], x[:j], out=line[1 : 2 * j : 2])
        line[2 * j] = 2 * column[j] * x[j]
        np.multiply(column[j + 1 :], x[j + 1 :], out=line[2 * j + 1 :: 2])
        np.multiply(column[j + 1 :], x[j], out=line[2 * j + 2 :: 2])
    return sp.csr_array((values.ravel(), columns, starts), shape=(size**2, size))


# ------------------------------------------------------------------------------------------------- Hessians


def logistic_weights(X: Array, y: Array, w: Array) -> Array:
    p = expit(-y * (X @ w))
    return p * (1 - p)


def logistic_hessian(X: Array, y: Array, w: Array) -> Array:
    root = np.sqrt(logistic_weights(X, y, w))[:, None] * X
    return root.T @ root  # NumPy computes half of it, by syrk


def logistic_hvp(X: Array, y: Array, w: Array, v: Array) -> Array:
    return X.T @ (logistic_weights(X, y, w) * (X @ v))


def factorisation_hessian(T: Array, U: Array, V: Array) -> Array:
    n, r = U.shape
    result = np.zeros((n, r, n, r))
    np.einsum("ipiq->ipq", result)[...] = 2 * (V.T @ V)
    return result


def factorisation_block(T: Array, U: Array, V: Array) -> Array:
    return 2 * (V.T @ V)


def identity_kron(block: Array, U: Array, **_: Array) -> Array:
    return np.einsum("ij,pq->ipjq", np.eye(len(U)), block)


def factorisation_step(T: Array, U: Array, V: Array, b: Array) -> Array:
    return sl.cho_solve(sl.cho_factor(2 * (V.T @ V)), b.T).T


def factorisation_hvp(T: Array, U: Array, V: Array, v: Array) -> Array:
    return v @ (2 * (V.T @ V))


def network_layers(W: Array, V: Array, x: Array, t: Array) -> tuple[Array, Array, Array, Array]:
    """Slope and bend of tanh in the first layer, the adjoint of its value, and the softmax."""
    h = np.tanh(W @ x)
    p = softmax(V @ h)
    slope = 1 - h**2
    return slope, -2 * h * slope, V.T @ (p - t), p


def network_hessian(W: Array, V: Array, x: Array, t: Array) -> Array:
    slope, bend, adjoint, p = network_layers(W, V, x, t)
    through = V * slope
    mean = p @ through
    core = through.T @ (p[:, None] * through) - np.outer(mean, mean)
    core[np.diag_indices_from(core)] += adjoint * bend
    return core[:, None, :, None] * np.outer(x, x)[:, None, :]


def network_hvp(W: Array, V: Array, x: Array, t: Array, v: Array) -> Array:
    slope, bend, adjoint, p = network_layers(W, V, x, t)
    change = v @ x
    logits = V @ (slope * change)
    change = slope * (V.T @ (p * (logits - p @ logits))) + adjoint * bend * change
    return np.outer(change, x)


def quadratic_hessian(A: Array, x: Array) -> Array:
    return A + A.T


def quadratic_hvp(A: Array, x: Array, v: Array) -> Array:
    return A @ v + v @ A


def logdet_hessian(X: Array) -> Array:
    inverse = np.linalg.inv(X)
    return -inverse.T[:, None, None, :] * inverse[:, :, None]


def logdet_hvp(X: Array, v: Array) -> Array:
    factors = sl.lu_factor(X)
    return -sl.lu_solve(factors, sl.lu_solve(factors, v).T, trans=1)


def inverse_trace_hessian(X: Array) -> Array:
    n = len(X)
    inverse = np.linalg.inv(X)
    square = inverse @ inverse
    columns = np.stack([square.ravel(), inverse.ravel()], axis=1)
    rows = np.stack([inverse.T, square.T], axis=1)
    return (columns @ rows).reshape(n, n, n, n)  # for each i, an outer product of rank two


def inverse_trace_hvp(X: Array, v: Array) -> Array:
    factors = sl.lu_factor(X)
    outer = sl.lu_solve(factors, sl.lu_solve(factors, v).T, trans=1)  # (X⁻¹ v X⁻¹)ᵀ
    return sl.lu_solve(factors, outer, trans=1) + sl.lu_solve(factors, outer.T).T


def logsumexp_hessian(x: Array) -> Array:
    p = softmax(x)
    result = np.multiply.outer(-p, p)
    result.ravel()[:: len(x) + 1] += p
    return result


def logsumexp_hvp(x: Array, v: Array) -> Array:
    p = softmax(x)
    return p * (v - p @ v)


def distances_hessian(X: Array) -> Array:
    n = len(X)
    result = np.empty((n, 3, n, 3))
    for rows in row_blocks(n, 9 * n):
        points = np.arange(n)[rows]
        apart = X[rows, None] - X
        inverse = np.einsum("ija,ija->ij", apart, apart)
        inverse[np.arange(len(points)), points] = np.inf
        inverse = 1 / np.sqrt(inverse)
        direction = (np.sqrt(2 * inverse) * inverse)[:, :, None] * apart
        block = result[rows]
        across = np.ascontiguousarray(direction.transpose(0, 2, 1))
        np.multiply(across[:, :, :, None], direction[:, None], out=block)
        np.einsum("iaja->ija", block)[...] -= 2 * inverse[:, :, None]
        for here, point in enumerate(points):
            block[here, :, point] = -block[here].sum(axis=1)
    return result


def distances_hvp(X: Array, v: Array) -> Array:
    squares, cross = np.einsum("ia,ia->i", X, X), np.einsum("ia,ia->i", X, v)
    result = np.empty_like(X)
    for rows in row_blocks(len(X), len(X)):
        inverse = squares[rows, None] + squares - 2 * (X[rows] @ X.T)
        inverse[np.arange(len(inverse)), np.arange(len(X))[rows]] = np.inf
        inverse = 1 / np.sqrt(inverse)
        along = (cross[rows, None] + cross - X[rows] @ v.T - v[rows] @ X.T) * inverse**3
        result[rows] = inverse.sum(axis=1)[:, None] * v[rows] - inverse @ v
        result[rows] -= along.sum(axis=1)[:, None] * X[rows] - along @ X
    return 2 * result


# -------------------------------------------------------------------------------------- gradients and steps


def cp_gradient(T: Array, A: Array, B: Array, C: Array) -> Array:
    n, rank = A.shape
    contracted = (T.reshape(-1, T.shape[2]) @ C).reshape(n, -1, rank)
    return A @ ((B.T @ B) * (C.T @ C)) - np.einsum("abr,br->ar", contracted, B)


def mttkrp(T: Array, B: Array, C: Array) -> Array:
    contracted = (T.reshape(-1, T.shape[2]) @ C).reshape(len(T), len(B), -1)
    return np.einsum("abr,br->ar", contracted, B)


def along_every_axis(T: Array, *factors: Array) -> Array:
    for factor in factors:
        T = (T.reshape(len(factor), -1).T @ factor).reshape(*T.shape[1:], -1)  # the axis goes to the end
    return T


def tucker(T: Array, A: Array, B: Array, C: Array) -> Array:
    return along_every_axis(T, A, B, C)


def gaussian_process_gradient(D: Array, y: Array, l: Array, s: Array, v: Array) -> tuple[Array, Array, Array]:
    correlation = np.exp(D * (-0.5 / l**2))
    covariance = s * correlation
    covariance[np.diag_indices_from(covariance)] += v
    factor = sl.cho_factor(covariance, lower=True, overwrite_a=True)
    a = sl.cho_solve(factor, y)
    weights = np.tril(sl.lapack.dpotri(factor[0], lower=1)[0])  # half of the inverse
    weights += np.tril(weights, -1).T
    weights -= np.outer(a, a)
    trace = weights.trace()
    weights *= correlation
    return s * np.vdot(weights, D) / (2 * l**3), weights.sum() / 2, trace / 2


def newton_step(X: Array, y: Array, w: Array) -> Array:
    p = expit(-y * (X @ w))
    root = np.sqrt(p * (1 - p))[:, None] * X
    hessian = root.T @ root
    hessian[np.diag_indices_from(hessian)] += 1
    return sl.cho_solve(sl.cho_factor(hessian, overwrite_a=True), X.T @ (y * p) - w)


# -------------------------------------------------------------------------------------------- einsum alone


def batched_product(A: Array, B: Array) -> Array:
    return A @ B


def hadamard_products(A: Array, B: Array, C: Array, D: Array) -> Array:
    return (A * B) @ (C * D)


def scaled(A: Array, v: Array, x: Array) -> Array:
    result = np.empty_like(A)
    for rows in row_blocks(*A.shape):
        block = np.multiply(A[rows], x, out=result[rows])
        block *= v[rows, None]
    return result


def tiles(length: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, length, step)]


def trace_of_product(A: Array, B: Array) -> Array:
    step = 128 if A.size > 1024**2 else max(A.shape)  # the columns of B that a tile takes stay in the cache
    rows, columns = (tiles(length, step) for length in A.shape)
    return sum(np.einsum("ij,ji->", A[i, j], B[j, i]) for i in rows for j in columns)


def chain(A: Array, B: Array, C: Array, D: Array, E: Array, F: Array) -> Array:
    return (A @ (B @ C)) @ ((D @ E) @ F)


def four_index_transform(T: Array, A: Array, B: Array, C: Array, D: Array) -> Array:
    return along_every_axis(T, A, B, C, D)


def product_of_three(A: Array, B: Array, C: Array) -> Array:
    return A @ B @ C
