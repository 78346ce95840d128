"""A sum of two products, A B + D E, in four ways: does it pay to let BLAS add the second to the first?

    python tests/benchmarks/accumulate.py

NumPy has no product that adds to what is there; `scipy.linalg.blas.dgemm` has one (beta = 1), which saves a temporary
and a pass over it. But SciPy brings a BLAS of its own, with threads of its own: those of the one go on spinning while
the other works. docs/performance/fused.md has the result.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
from scipy.linalg import blas

SIZES = ((50, 50), (200, 200), (1000, 4), (1000, 1000), (2000, 20), (2000, 200))  # rows and columns, and the sum
ROUNDS = 15


def ways(n: int, k: int) -> dict[str, Callable[[], np.ndarray]]:
    rng = np.random.default_rng(0)
    A, D = rng.normal(size=(n, k)), rng.normal(size=(n, k))
    B, E = rng.normal(size=(k, n)), rng.normal(size=(k, n))
    out, other = np.empty((n, n)), np.empty((n, n))
    left, right = np.empty((n, 2 * k)), np.empty((2 * k, n))

    def added() -> np.ndarray:
        np.matmul(A, B, out=out)
        np.matmul(D, E, out=other)
        return np.add(out, other, out=out)

    def mixed() -> np.ndarray:
        np.matmul(A, B, out=out)
        return blas.dgemm(1.0, E.T, D.T, 1.0, out.T, overwrite_c=1).T

    def scipy_alone() -> np.ndarray:
        blas.dgemm(1.0, B.T, A.T, 0.0, out.T, overwrite_c=1)
        return blas.dgemm(1.0, E.T, D.T, 1.0, out.T, overwrite_c=1).T

    def side_by_side() -> np.ndarray:
        np.concatenate([A, D], axis=1, out=left)
        np.concatenate([B, E], axis=0, out=right)
        return np.matmul(left, right, out=out)

    return {
        "two products, added": added,
        "the second by SciPy, beta = 1": mixed,
        "both by SciPy, beta = 1": scipy_alone,
        "one product of [A D] and [B; E]": side_by_side,
    }


def main() -> None:
    print("| n, k | " + " | ".join(ways(2, 2)) + " |")
    print("| --- |" + " --: |" * 4)
    for n, k in SIZES:
        contenders = ways(n, k)
        wanted = contenders["two products, added"]().copy()
        for way in contenders.values():
            np.testing.assert_allclose(way(), wanted, rtol=1e-9, atol=1e-9)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, way in contenders.items():
                begun = perf_counter()
                way()
                times[name].append(perf_counter() - begun)
        first = median(times["two products, added"])
        print(
            f"| {n}, {k} | {1e3 * first:.3g} ms | "
            + " | ".join(f"{median(t) / first:.2f}" for t in [*times.values()][1:])
            + " |"
        )


if __name__ == "__main__":
    main()
