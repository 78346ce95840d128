"""The derivative of A ∘ xxᵀ by x: every reading of it, then three ways to compute it, each verified.

Its k³ entries hold only 2k² numbers that are not zero by structure. No stage here forgets that.
"""

from __future__ import annotations

import numpy as np

import tensordsl as td


def main() -> None:
    k = td.dim("k")
    x = td.vector("x", k)
    A = td.matrix("A", k, k)
    F = A * td.outer(x, x)

    print("F =", F, end="\n\n")
    td.explain(F, x)

    # The same derivative by hand: x_j where the differentiated index is i, x_i where it is j, both where
    # they meet.
    size = 60
    rng = np.random.default_rng(0)
    a, v = rng.normal(size=(size, size)), rng.normal(size=size)
    eye = np.eye(size)
    by_hand = np.einsum("ij,j,ik->ijk", a, v, eye) + np.einsum("ij,i,jk->ijk", a, v, eye)

    J = td.jacobian(F, x)
    dense = td.compile(J)(A=a, x=v)
    np.testing.assert_allclose(dense, by_hand)
    np.testing.assert_allclose(dense[7, 7, 7], 2 * a[7, 7] * v[7])
    print(
        f"\ndense     {dense.size:>7,} numbers; where all indices meet, J[7,7,7] = 2*A[7,7]*x[7] = {dense[7, 7, 7]:.4f}"
    )

    sparse = td.compile(J, output="sparse")(A=a, x=v)
    np.testing.assert_allclose(sparse.todense(), by_hand)
    assert sparse.nnz <= 2 * size**2
    print(f"sparse    {sparse.nnz:>7,} numbers, the same tensor as a scipy.sparse array")

    # As a linear map from dx to vec(dF): its rows run over the entries of F column by column.
    operator = td.compile(td.jacobian_matrix(F, x), output="operator")(A=a, x=v)
    direction, weights = rng.normal(size=size), rng.normal(size=(size, size))
    np.testing.assert_allclose(operator @ direction, np.einsum("ijk,k->ji", by_hand, direction).ravel(), atol=1e-12)
    np.testing.assert_allclose(operator.T @ weights.T.ravel(), np.einsum("ijk,ij->k", by_hand, weights), atol=1e-12)
    print(f"operator  {operator.shape[0]:,} by {operator.shape[1]}, applied from the right and from the left")

    td.check_derivative(F, x)
    print("verified  against a numerical derivative")


if __name__ == "__main__":
    main()
