"""What A ∘ xxᵀ and its derivative cost beside NumPy by hand: in one run, interleaved, checked equal.

    python tests/benchmarks/flagship.py               every figure, with its target
    python tests/benchmarks/flagship.py dense import  those whose name begins so
    pytest tests/benchmarks/flagship.py               both sides under pytest-benchmark, to save and compare

Dense needs 9 GB of memory: two results of 4 GB, to compare them.
"""

from __future__ import annotations

import gc
import itertools
import json
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
from rich.console import Console
from rich.table import Table

import tensordsl as td

k = td.dim("k")
x, d = td.vector("x", k), td.vector("d", k)
A, W = td.matrix("A", k, k), td.matrix("W", k, k)
F = A * td.outer(x, x)

Call = Callable[[], Any]


class Pair(NamedTuple):
    """The same work by the library and by hand, and how to see that the two agree."""

    library: Call
    by_hand: Call
    check: Callable[[Any, Any], None] = np.testing.assert_allclose
    rounds: int = 9


class Figure(NamedTuple):
    by_hand: str
    library: str
    value: float
    unit: str
    target: float


# ---------------------------------------------------------------------------------------------- by hand


def random_data(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(size)
    return {"A": rng.normal(size=(size, size)), "x": rng.normal(size=size)}


def dense_by_hand(A: np.ndarray, x: np.ndarray) -> np.ndarray:
    result = np.zeros((len(x),) * 3)
    at_row = np.einsum("iji->ij", result)  # writable views of two diagonals
    at_row += A * x
    at_column = np.einsum("ijj->ij", result)
    at_column += A * x[:, None]
    return result


def sparse_by_hand(A: np.ndarray, x: np.ndarray) -> sp.coo_array:
    size = len(x)
    row, column = (axis.ravel() for axis in np.indices(A.shape, dtype=np.int32))
    values = np.concatenate([(A * x).ravel(), (A * x[:, None]).ravel()])
    places = np.tile(row, 2), np.tile(column, 2), np.concatenate([row, column])
    return sp.coo_array((values, places), shape=(size,) * 3)


# ----------------------------------------------------------------------------------------------- checks


def check_slabs(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Slab by slab, for a comparison of the whole would make temporaries of its size."""
    assert ours.shape == theirs.shape
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their)


def check_sparse(ours: sp.coo_array, theirs: sp.coo_array) -> None:
    """By the action on a random vector: the order of entries is free, and repeated ones add up."""
    assert ours.shape == theirs.shape
    size = ours.shape[0]
    vector = np.random.default_rng(1).normal(size=size)

    def act(array: sp.coo_array) -> np.ndarray:
        i, j, l = array.coords
        return np.bincount(i.astype(np.int64) * size + j, array.data * vector[l], minlength=size**2)

    np.testing.assert_allclose(act(ours), act(theirs), atol=1e-12)


# ------------------------------------------------------------------------------------- pairs of programs


def dense(size: int = 800) -> Pair:
    data, run = random_data(size), td.compile(td.jacobian(F, x))
    return Pair(lambda: run(**data), lambda: dense_by_hand(**data), check_slabs, rounds=5)


def sparse(size: int = 4000) -> Pair:
    data, run = random_data(size), td.compile(td.jacobian(F, x), output="sparse")
    return Pair(lambda: run(**data), lambda: sparse_by_hand(**data), check_sparse, rounds=5)


def jvp(size: int = 4000) -> Pair:
    data, run = random_data(size), td.compile(td.jvp(F, x, d))
    a, v, direction = data["A"], data["x"], np.random.default_rng(2).normal(size=size)
    return Pair(
        lambda: run(d=direction, **data),
        lambda: a * (np.outer(direction, v) + np.outer(v, direction)),
    )


def vjp(size: int = 4000) -> Pair:
    data, run = random_data(size), td.compile(td.vjp(F, x, W))
    a, v, weights = data["A"], data["x"], np.random.default_rng(3).normal(size=(size, size))

    def by_hand() -> np.ndarray:
        weighted = a * weights
        return weighted @ v + v @ weighted

    def check(ours: np.ndarray, theirs: np.ndarray) -> None:
        # A sum of 4,000 terms of both signs: rounding is relative to the terms, not to what they leave.
        np.testing.assert_allclose(ours, theirs, atol=1e-11)

    return Pair(lambda: run(W=weights, **data), by_hand, check)


def call_value() -> Pair:
    data, run = random_data(8), td.compile(F)
    a, v = data["A"], data["x"]
    return Pair(lambda: run(A=a, x=v), lambda: a * (v[:, None] * v), rounds=25)


def call_derivative() -> Pair:
    data, run = random_data(8), td.compile(td.jacobian(F, x))
    a, v = data["A"], data["x"]
    return Pair(lambda: run(A=a, x=v), lambda: dense_by_hand(a, v), rounds=25)


# ---------------------------------------------------------------------------------------- symbolic work

fresh = itertools.count()


def fresh_vector() -> Any:
    """A vector that no expression has held, so that nothing of an earlier run is found again."""
    return td.vector(f"y{next(fresh)}", k)


def derive_and_render() -> str:
    y = fresh_vector()
    return str(td.jacobian(A * td.outer(y, y), y))


def chain(length: int) -> tuple[Any, Any]:
    y = z = fresh_vector()
    for step in range(length):
        z = td.sin(z) if step % 2 else z + y
    return td.grad(td.sum(z), y), y


def doubling(length: int) -> tuple[Any, Any]:
    y = z = fresh_vector()
    for _ in range(length):
        z = z + z
    return td.grad(td.sum(z), y), y


def sharing(length: int) -> tuple[Any, Any]:
    y = z = fresh_vector()
    for _ in range(length):
        z = z + z * y
    return td.grad(td.sum(z), y), y


def check_chain(length: int) -> None:
    gradient, y = chain(length)
    point = np.array([0.3, -1.1, 0.02])
    value, slope = point.copy(), np.ones(3)
    for step in range(length):
        value, slope = (np.sin(value), np.cos(value) * slope) if step % 2 else (value + point, slope + 1)
    np.testing.assert_allclose(gradient.evaluate({y: point}), slope)


def check_doubling(length: int) -> None:
    gradient, y = doubling(length)
    np.testing.assert_allclose(gradient.evaluate({y: np.ones(3)}), np.full(3, 2.0**length))


def check_sharing(length: int) -> None:
    gradient, y = sharing(length)
    point = np.array([0.3, -0.4, 0.02])
    slope = (1 + point) ** length + length * point * (1 + point) ** (length - 1)
    np.testing.assert_allclose(gradient.evaluate({y: point}), slope)


# ------------------------------------------------------------------------------------------------ timing


def seconds(call: Call, repeats: int = 1) -> float:
    """Seconds for one call. What it returns is freed outside the measured time."""
    start = time.perf_counter()
    for _ in range(repeats):
        result = call()
    stop = time.perf_counter()
    del result
    return (stop - start) / repeats


def interleaved(first: Call, second: Call, rounds: int, least: float = 0.005) -> tuple[list[float], list[float]]:
    """Seconds of each, round by round. They take turns to go first: a drift of the machine hits both."""
    repeats = max(1, round(least / max(seconds(first), seconds(second), 1e-7)))
    times: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for side in (0, 1) if turn % 2 else (1, 0):
                times[side].append(seconds((first, second)[side], repeats))
    finally:
        gc.enable()
    return times


def show(value: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e3)):
        if value * scale >= 1:
            return f"{value * scale:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def ratio(build: Callable[[], Pair], target: float) -> Figure:
    pair = build()
    pair.check(pair.library(), pair.by_hand())
    ours, theirs = interleaved(pair.library, pair.by_hand, pair.rounds)
    value = median(our / their for our, their in zip(ours, theirs, strict=True))
    return Figure(show(median(theirs)), show(median(ours)), value, "times", target)


def overhead(build: Callable[[], Pair], target: float) -> Figure:
    pair = build()
    pair.check(pair.library(), pair.by_hand())
    ours, theirs = interleaved(pair.library, pair.by_hand, pair.rounds)
    value = median(our - their for our, their in zip(ours, theirs, strict=True)) * 1e6
    return Figure(show(median(theirs)), show(median(ours)), value, "µs more", target)


def derive(target: float) -> Figure:
    derive_and_render()  # warm
    value = median(seconds(derive_and_render) for _ in range(51))
    return Figure("", show(value), value * 1e3, "ms", target)


def growth(build: Callable[[int], Any], check: Callable[[int], None], length: int, target: float) -> Figure:
    """How much longer twice the length takes: 2 where time is linear in it."""
    check(length)
    half, whole = interleaved(lambda: build(length // 2), lambda: build(length), rounds=5)
    return Figure(f"{show(min(half))} for half", show(min(whole)), min(whole) / min(half), "times", target)


# ----------------------------------------------------------------------------- in processes of their own

HEAVY = ("dask", "distributed", "scipy", "matplotlib")


def fresh_process(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def import_time(target: float) -> Figure:
    def script(module: str) -> str:
        return (
            "import json, sys, time; start = time.perf_counter(); "
            f"import {module}; stop = time.perf_counter(); "
            f"print(json.dumps([stop - start, [name for name in {HEAVY} if name in sys.modules]]))"
        )

    ours, theirs = [], []
    for _ in range(9):
        taken, heavy = fresh_process("-c", script("tensordsl"))
        assert not heavy, f"import tensordsl imports {', '.join(heavy)}"
        ours.append(taken)
        theirs.append(fresh_process("-c", script("numpy"))[0])
    return Figure(f"{show(median(theirs))} for numpy", show(median(ours)), median(ours), "s", target)


def measure_memory(side: str) -> None:
    """Prints the bytes that a dense call allocates at its peak beyond its result, and the peak resident set.

    Both, for each misses something: NumPy reports every array that it allocates, touched or not, but not
    what other code allocates; of the resident set the opposite holds.
    """
    pair = dense()
    call = pair.library if side == "library" else pair.by_hand
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    result = call()
    _, peak = tracemalloc.get_traced_memory()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(json.dumps([peak - before - result.nbytes, resident]))


def memory(target: float) -> Figure:
    ours, our_resident = fresh_process(__file__, "--memory", "library")
    theirs, their_resident = fresh_process(__file__, "--memory", "by hand")
    worse = max(ours, our_resident - their_resident)
    return Figure(f"{theirs / 1e6:.1f} MB", f"{ours / 1e6:.1f} MB", worse / 1e6, "MB", target)


# ------------------------------------------------------------------------------------------------ report

FIGURES: dict[str, Callable[[], Figure]] = {
    "dense derivative, k = 800": lambda: ratio(dense, 1.3),
    "memory beyond its 4 GB": lambda: memory(100),
    "sparse derivative, k = 4,000": lambda: ratio(sparse, 1.5),
    "jvp, k = 4,000": lambda: ratio(jvp, 1.3),
    "vjp, k = 4,000": lambda: ratio(vjp, 1.3),
    "call of F, k = 8": lambda: overhead(call_value, 30),
    "call of the derivative, k = 8": lambda: overhead(call_derivative, 30),
    "derive and render": lambda: derive(5),
    "chain of 10,000": lambda: growth(chain, check_chain, 10_000, 2.5),
    "doubling, fifty deep": lambda: growth(doubling, check_doubling, 50, 2.5),
    "sharing, fifty deep": lambda: growth(sharing, check_sharing, 50, 2.5),
    "import": lambda: import_time(0.2),
}


def report(wanted: list[str]) -> bool:
    """Prints the figures whose names begin as wanted; whether all of them reach their targets."""
    console = Console()
    table = Table("", "by hand", "tensordsl", "figure", "target", title="A ∘ xxᵀ and its derivative by x")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    reached = True
    for name, measure in FIGURES.items():
        if wanted and not name.startswith(tuple(wanted)):
            continue
        with console.status(name):
            figure = measure()
        good = figure.value <= figure.target
        reached = reached and good
        colour = "green" if good else "red"
        table.add_row(
            name,
            figure.by_hand,
            figure.library,
            f"[{colour}]{figure.value:.3g} {figure.unit}[/]",
            f"≤ {figure.target:g}",
        )
    console.print(table)
    return reached


# ------------------------------------------------------------------------------------- pytest-benchmark


def calls() -> Iterator[Any]:
    for build in (dense, sparse, jvp, vjp, call_value, call_derivative):
        for side in ("by_hand", "library"):
            yield pytest.param(build, side, id=f"{build.__name__}-{side}")


@pytest.mark.parametrize(("build", "side"), list(calls()))
def test_call(benchmark: Any, build: Callable[[], Pair], side: str) -> None:
    benchmark.group = build.__name__
    pair = build()
    pair.check(pair.library(), pair.by_hand())
    if build in (call_value, call_derivative):
        benchmark(getattr(pair, side))
    else:
        benchmark.pedantic(getattr(pair, side), rounds=pair.rounds, warmup_rounds=1)


@pytest.mark.parametrize(
    ("build", "length"),
    [(chain, 5_000), (chain, 10_000), (doubling, 25), (doubling, 50), (sharing, 25), (sharing, 50)],
)
def test_symbolic(benchmark: Any, build: Callable[[int], Any], length: int) -> None:
    benchmark.group = build.__name__
    benchmark.pedantic(build, args=(length,), rounds=5, warmup_rounds=1)


def test_derive_and_render(benchmark: Any) -> None:
    benchmark(derive_and_render)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(sys.argv[2])
    else:
        sys.exit(0 if report(sys.argv[1:]) else 1)
