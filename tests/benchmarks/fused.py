"""Ways to run a chain of entry-by-entry steps: plain NumPy, NumPy in blocks, compilers, and the library itself.

    python tests/benchmarks/fused.py [--seconds 2] [--reuse] [--json fused.json]

The contenders are made and called once (what that takes is printed: compilers compile then), their values are compared,
and then they are timed in turn, round by round, so that whatever else the machine does meets all of them alike. In each
round a call that is not timed goes before, since others have been at the cache. Those whose package is missing are left
out. Results are allocated anew in each call, as a caller meets them; with --reuse those contenders that can write into
an array that is kept, so that no time goes into new pages of memory. The best time is that of a machine with nothing
else to do; the median is what it is beside whatever else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to whoever is timed next
os.environ.setdefault("KMP_BLOCKTIME", "0")

import numpy as np

import tensordsl as td

Array = np.ndarray[Any, Any]
Call = Callable[[], Any]
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BLOCKS = [1 << power for power in range(14, 20)]
LEAST = 7  # rounds


class Workload(NamedTuple):
    """One chain: its data, and how each contender says it."""

    title: str
    data: dict[str, Array]
    plain: Callable[..., Array]
    block: Callable[..., None]  # (out, scratch, low, high, **data): rows low to high, in place
    scratch: int  # arrays of a block that it works in
    expression: td.Expr
    numexpr: str
    numba: str  # the source of a parallel function of the data and `out`


# --- the chains -----------------------------------------------------------------------------------------------------


def product(k: int) -> Workload:
    """A∘(vxᵀ + xvᵀ): what the derivative of A∘xxᵀ does to a direction v. Arithmetic alone."""
    rng = np.random.default_rng(0)
    data = {"A": rng.normal(size=(k, k)), "v": rng.normal(size=k), "x": rng.normal(size=k)}
    size = td.dim("k")
    A, v, x = td.matrix("A", size, size), td.vector("v", size), td.vector("x", size)

    def block(out: Array, scratch: list[Array], low: int, high: int, A: Array, v: Array, x: Array) -> None:
        one, other, rows = scratch[0][: high - low], scratch[1][: high - low], slice(low, high)
        np.multiply(v[rows, None], x, out=one)
        np.multiply(x[rows, None], v, out=other)
        np.add(one, other, out=one)
        np.multiply(A[rows], one, out=out[rows])

    return Workload(
        f"A*(v[:,None]*x + x[:,None]*v), k = {k}",
        data,
        lambda A, v, x: A * (v[:, None] * x + x[:, None] * v),
        block,
        2,
        A * (td.outer(v, x) + td.outer(x, v)),
        "A * (vc * x + xc * v)",
        "def f(A, v, x, out):\n"
        "    for i in prange(A.shape[0]):\n"
        "        for j in range(A.shape[1]):\n"
        "            out[i, j] = A[i, j] * (v[i] * x[j] + x[i] * v[j])\n",
    )


def softplus(n: int) -> Workload:
    """log1p(exp(-yz)): the loss of logistic regression, entry by entry. Two transcendental functions."""
    rng = np.random.default_rng(0)
    data = {"y": rng.normal(size=n), "z": rng.normal(size=n)}
    size = td.dim("n")
    y, z = td.vector("y", size), td.vector("z", size)

    def block(out: Array, scratch: list[Array], low: int, high: int, y: Array, z: Array) -> None:
        here = out[low:high]
        np.multiply(y[low:high], z[low:high], out=here)
        np.negative(here, out=here)
        np.exp(here, out=here)
        np.log1p(here, out=here)

    return Workload(
        f"log1p(exp(-y*z)), n = 10^{round(np.log10(n))}",
        data,
        lambda y, z: np.log1p(np.exp(-y * z)),
        block,
        0,
        td.log1p(td.exp(-y * z)),
        "log1p(exp(-y * z))",
        "def f(y, z, out):\n    for i in prange(y.shape[0]):\n        out[i] = np.log1p(np.exp(-y[i] * z[i]))\n",
    )


WORKLOADS = [
    (product, 1000), (product, 4000), (softplus, 10**4), (softplus, 10**5), (softplus, 10**6)
]  # fmt: skip


# --- the contenders -------------------------------------------------------------------------------------------------


def contenders(work: Workload, reuse: bool) -> Iterator[tuple[str, Callable[[], Call]]]:
    """Each contender by name: a function that makes the call to be timed."""
    shape = work.plain(**work.data).shape
    kept = np.empty(shape) if reuse else None

    def target() -> Array:
        return np.empty(shape) if kept is None else kept

    yield "plain NumPy", lambda: lambda: work.plain(**work.data)
    for threads in dict.fromkeys((1, THREADS)):
        for entries in BLOCKS:
            name = f"in blocks, 2^{entries.bit_length() - 1}, {threads} thread{'s' * (threads > 1)}"
            yield name, lambda e=entries, t=threads: blocked(work, e, t, shape, target)
    yield "tensordsl", lambda: library(work, kept)
    yield "numexpr", lambda: by_numexpr(work, target)
    yield "numba", lambda: by_numba(work, target)
    yield "jax.jit", lambda: by_jax(work)
    yield "torch.compile", lambda: by_torch(work)


def blocked(work: Workload, entries: int, threads: int, shape: tuple[int, ...], target: Callable[[], Array]) -> Call:
    """NumPy with `out=`, a block at a time, by threads that keep their scratch."""
    per_row = int(np.prod(shape[1:], dtype=int))
    rows = max(1, min(entries // per_row, -(-shape[0] // threads)))
    scratch = [[np.empty((rows, *shape[1:])) for _ in range(work.scratch)] for _ in range(threads)]
    bounds = [shape[0] * t // threads for t in range(threads + 1)]
    pool = ThreadPoolExecutor(max(1, threads - 1))

    def part(out: Array, thread: int) -> None:
        for low in range(bounds[thread], bounds[thread + 1], rows):
            work.block(out, scratch[thread], low, min(low + rows, bounds[thread + 1]), **work.data)

    def run() -> Array:
        out = target()
        others = [pool.submit(part, out, thread) for thread in range(1, threads)]
        part(out, 0)
        for other in others:
            other.result()
        return out

    return run


def library(work: Workload, kept: Array | None) -> Call:
    function = td.compile(work.expression)
    return lambda: function(**work.data, out=kept)


def by_numexpr(work: Workload, target: Callable[[], Array]) -> Call:
    import numexpr

    columns = {f"{name}c": array[:, None] for name, array in work.data.items() if array.ndim == 1}
    numexpr.set_num_threads(THREADS)
    local = {**work.data, **columns}
    return lambda: numexpr.evaluate(work.numexpr, out=target(), local_dict=local, global_dict={})


def by_numba(work: Workload, target: Callable[[], Array]) -> Call:
    import numba

    space: dict[str, Any] = {"np": np, "prange": numba.prange}
    exec(work.numba, space)
    function = numba.njit(parallel=True)(space["f"])

    def run() -> Array:
        out = target()
        function(*work.data.values(), out)
        return out

    return run


def by_jax(work: Workload) -> Call:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    data = {name: jnp.asarray(array) for name, array in work.data.items()}
    said = {
        "A": lambda A, v, x: A * (v[:, None] * x + x[:, None] * v),
        "y": lambda y, z: jnp.log1p(jnp.exp(-y * z)),
    }
    function = jax.jit(said[next(iter(data))])
    return lambda: function(**data).block_until_ready()


def by_torch(work: Workload) -> Call:
    import torch

    torch.set_num_threads(THREADS)
    data = {name: torch.from_numpy(array) for name, array in work.data.items()}
    said = {
        "A": lambda A, v, x: A * (v[:, None] * x + x[:, None] * v),
        "y": lambda y, z: torch.log1p(torch.exp(-y * z)),
    }
    function = torch.compile(said[next(iter(data))])
    return lambda: function(**data)


# --- measuring ------------------------------------------------------------------------------------------------------


def measure(work: Workload, seconds: float, reuse: bool) -> list[dict[str, Any]]:
    """The first call and the median of each contender, the rounds interleaved; none that gives other values."""
    expected = work.plain(**work.data)
    calls: dict[str, Call] = {}
    first: dict[str, float] = {}
    for name, make in contenders(work, reuse):
        with suppress(ImportError):
            start = time.perf_counter()
            call = make()
            found = call()
            first[name] = time.perf_counter() - start
            np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-12)
            calls[name] = call
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(times["plain NumPy"]) < LEAST:
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    return [
        {
            "workload": work.title,
            "contender": name,
            "first": first[name],
            "best": min(times[name]),
            "median": median,
            "ratio": median / medians["plain NumPy"],
            "rounds": len(times[name]),
        }
        for name, median in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each contender on each chain")
    parser.add_argument("--reuse", action="store_true", help="write results into an array that is kept")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    print(f"{THREADS} threads, Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}")
    figures = []
    for make, size in WORKLOADS:
        found = measure(make(size), options.seconds, options.reuse)
        figures += found
        print(f"\n{found[0]['workload']}, {found[0]['rounds']} rounds\n")
        print("| | median, ms | best, ms | × plain NumPy | first call, ms |\n| --- | ---: | ---: | ---: | ---: |")
        for row in found:
            median, best, first = (f"{1e3 * row[key]:.3g}" for key in ("median", "best", "first"))
            print(f"| {row['contender']} | {median} | {best} | {row['ratio']:.2f} | {first} |")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
