"""Those who make ∂vec(A ∘ xxᵀ)/∂xᵀ sparse. The set-up of a tool is part of each call, unless its name says else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from workload import Call, Sizes, Workload

Data = Mapping[str, Any]


def coordinates(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the two terms, A[i,j]*x[j] in the column i and A[i,j]*x[i] in the column j; the row of (i, j) is j*k + i."""
    column, row = (axis.ravel() for axis in np.indices((k, k), dtype=np.int32))
    return np.tile(np.arange(k * k, dtype=np.int32), 2), np.concatenate([row, column])


def from_coo(workload: Workload, sizes: Sizes, data: Data) -> Call:
    A, x, k = data["A"], data["x"], sizes["k"]

    def run() -> sp.csr_array:
        values = np.concatenate([(A * x).T.ravel(), (A.T * x).ravel()])
        return sp.coo_array((values, coordinates(k)), shape=(k * k, k)).tocsr()

    return run


def from_kronecker_products(workload: Workload, sizes: Sizes, data: Data) -> Call:
    A, x, k = data["A"], data["x"][:, None], sizes["k"]

    def run() -> sp.csr_array:
        eye = sp.eye_array(k, format="csr")
        column = sp.csr_array(x)
        pair = sp.kron(column, eye, format="csr") + sp.kron(eye, column, format="csr")
        return sp.csr_array(sp.diags_array(A.T.ravel()) @ pair)

    return run


def entries(A: Any) -> Callable[[Any], Any]:
    import jax.numpy as jnp

    return lambda x: (A * jnp.outer(x, x)).T.reshape(-1)


def as_csr(array: Any) -> sp.csr_array:
    places = np.asarray(array.indices).T
    return sp.coo_array((np.asarray(array.data), tuple(places)), shape=array.shape).tocsr()


def asdex(workload: Workload, sizes: Sizes, data: Data) -> Call:
    import asdex

    return lambda: as_csr(asdex.jacobian(entries(data["A"]), data["x"])(data["x"]))


def asdex_kept(workload: Workload, sizes: Sizes, data: Data) -> Call:
    import asdex
    import jax

    run = jax.jit(asdex.jacobian(entries(data["A"]), data["x"]))
    return lambda: as_csr(run(data["x"]))


def sparsejac(workload: Workload, sizes: Sizes, data: Data) -> Call:
    """The pattern is given to it, for it looks for none."""
    import jax.experimental.sparse as jsparse
    import jax.numpy as jnp
    import sparsejac

    k = sizes["k"]

    def run() -> sp.csr_array:
        rows, columns = coordinates(k)
        pattern = sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=(k * k, k)).tocsr().tocoo()
        places = jnp.stack([jnp.asarray(axis) for axis in pattern.coords], axis=1)
        sparsity = jsparse.BCOO((jnp.ones(pattern.nnz), places), shape=pattern.shape)
        return as_csr(sparsejac.jacfwd(entries(data["A"]), sparsity)(data["x"]))

    return run
