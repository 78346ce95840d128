"""Blocks: steps done together, piece by piece and by several threads, give what they give one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from small import WAYS, blocks_of, function_of, small, unfused
from strategies import DIMS, Case, cases, close
from test_program import KINDS, case_of

import tensordsl as td
from tensordsl.program.blocks import Limits
from tensordsl.program.build import build
from tensordsl.program.threads import in_blocks

k, m = td.dims("k m")
x, y, z = td.vector("x", k), td.vector("y", k), td.vector("z", m)
A, B, T = td.matrix("A", k, k), td.matrix("B", k, m), td.tensor("T", k, m, k)
D, S = td.matrix("D", 7, 7), td.tensor("S", 7, 5, 7)
SIZES = {"k": 7, "m": 5}
RNG = np.random.default_rng(4)
DATA = {
    "x": RNG.normal(size=7),
    "y": RNG.normal(size=7),
    "z": RNG.normal(size=5),
    "A": RNG.normal(size=(7, 7)),
    "B": RNG.normal(size=(7, 5)),
    "T": RNG.normal(size=(7, 5, 7)),
}
DATA |= {"D": DATA["A"], "S": DATA["T"]}
a_, b_, t_, x_, y_, z_ = (DATA[name] for name in "ABTxyz")
eye = np.eye(7)


def with_jacobians(case: Case) -> list[Any]:
    e = case.expression()
    small_enough = [s for s in case.variables.values() if e.ndim <= 2 and e.ndim + s.ndim <= 4]
    return [e, *[td.jacobian(e, symbol) for symbol in small_enough]]


def check(expressions: list[Any], data: dict[str, Any], sizes: dict[str, int], limits: Limits) -> int:
    """The values in blocks are those without, of the same type, and the same bits each time; how many blocks."""
    wanted = unfused(expressions, data, sizes)
    with small(limits):
        program = build(expressions, sizes, dtype="float64")
    f = function_of(program, data, sizes, "float64")
    found = [f() if len(expressions) > 1 else (f(),) for _ in range(2)]
    for first, again, truth in zip(*found, wanted, strict=True):
        assert np.asarray(first).dtype == np.asarray(truth).dtype
        assert close(first, truth, 1e-11)
        assert np.asarray(first).tobytes() == np.asarray(again).tobytes()
    return len(blocks_of(program))


@pytest.mark.parametrize("way", ["two threads", "products too"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str, way: str) -> None:
    case = case_of(kind)
    expressions = with_jacobians(case)
    check(expressions, case.data, DIMS, WAYS[way])
    with small(WAYS[way]):
        found = td.compile(expressions[0])(case.data, **DIMS)
    assert close(found, case.oracle(case.data))


@pytest.mark.parametrize("way", WAYS)
@given(cases(3))
@settings(max_examples=30)
def test_random_cases(way: str, case: Case) -> None:
    with np.errstate(all="ignore"):
        wanted = np.asarray(case.oracle(case.data))
        assume(np.all(np.isfinite(wanted)) and np.max(np.abs(wanted), initial=0) < 1e6)
        check(with_jacobians(case), case.data, DIMS, WAYS[way])
        with small(WAYS[way]):
            assert close(td.compile(case.expression())(case.data, **DIMS), wanted)


# What blocks are made of, each with the same formula in NumPy: what a mistake in cutting would change.
FORMULAS: dict[str, tuple[Any, Any]] = {
    "entries": (A * (td.outer(x, y) + td.outer(y, x)), a_ * (np.outer(x_, y_) + np.outer(y_, x_))),
    "of a transpose": (td.exp(A.T) * B[:, :1] + x, np.exp(a_.T) * b_[:, :1] + x_),
    "sum along blocks": (td.sum(td.exp(A), axis=0), np.exp(a_).sum(0)),
    "sum across blocks": (td.sum(td.exp(A), axis=1), np.exp(a_).sum(1)),
    "sums of all axes": (td.sum(td.sin(T)), np.sin(t_).sum()),
    "sums of several axes": (td.sum(td.sin(T) * T, axis=(0, 2)), (np.sin(t_) * t_).sum((0, 2))),
    "sums both ways": (
        td.sum(td.exp(A), axis=0) + td.sum(td.exp(A), axis=1),
        np.exp(a_).sum(0) + np.exp(a_).sum(1),
    ),
    "a sum used by entries": (td.exp(A) / td.sum(td.exp(A), axis=1)[:, None], np.exp(a_) / np.exp(a_).sum(1)[:, None]),
    "the sum of another way": (td.exp(A) / td.sum(td.exp(A), axis=0), np.exp(a_) / np.exp(a_).sum(0)),
    "a matrix and its transpose": (td.tanh(A) + td.tanh(A).T, np.tanh(a_) + np.tanh(a_).T),
    "a diagonal of what is made": (td.diagonal(td.exp(A)) * x, np.diagonal(np.exp(a_)) * x_),
    "a diagonal of two deltas": (
        td.diagonal(td.jacobian(A @ x * x, x)),
        np.diagonal(a_ * x_[:, None] + np.diag(a_ @ x_)),
    ),
    "a trace of entries": (td.trace(td.sin(A) * A), np.trace(np.sin(a_) * a_)),
    "a vector with itself": (td.exp(td.outer(x, x)), np.exp(np.outer(x_, x_))),
    "differences of a vector with itself": (td.exp(-((x[:, None] - x) ** 2)), np.exp(-((x_[:, None] - x_) ** 2))),
    "their sum": (
        td.sum(td.exp(-((x[:, None] - x) ** 2)) * A, axis=0),
        (np.exp(-((x_[:, None] - x_) ** 2)) * a_).sum(0),
    ),
    "a delta": (td.diag(td.exp(x)) + td.exp(A), np.diag(np.exp(x_)) + np.exp(a_)),
    "a delta and its transpose": (
        td.jacobian(A * td.outer(x, x), x),
        np.einsum("ij,j,ik->ijk", a_, x_, eye) + np.einsum("ij,i,jk->ijk", a_, x_, eye),
    ),
    "written in another order": (2 * td.einsum("ij->jii", A), 2 * np.einsum("ij,il->jil", a_, eye)),
    "written reversed": (-td.einsum("ij->jiij", A), -np.einsum("ij,il,jn->jiln", a_, eye, eye)),
    "written with functions": (
        td.jacobian(td.exp(A @ x)[:, None] * td.exp(A), x),
        np.einsum("i,ij,ik->ijk", np.exp(a_ @ x_), np.exp(a_), a_),
    ),
    "a view of a slice": (td.exp(D[1:, ::-2]) * D[:-1, ::2], np.exp(a_[1:, ::-2]) * a_[:-1, ::2]),
    "a slice of what is made": (td.exp(A)[2:] * A[2:], np.exp(a_)[2:] * a_[2:]),
    "a row of what is made": (td.exp(A)[2] * A, np.exp(a_)[2] * a_),
    "steps of a slice": (td.sum(td.sin(S)[:, 1::2], axis=1), np.sin(t_)[:, 1::2].sum(1)),
    "a group of axes": (td.kron(td.exp(A), td.sin(B)), np.kron(np.exp(a_), np.sin(b_))),
    "a vector of a matrix": (td.vec(td.exp(A) * A) * 2, (np.exp(a_) * a_).T.reshape(-1) * 2),
    "the mean of a product": (td.mean(td.exp(A) @ B, axis=0), (np.exp(a_) @ b_).mean(0)),
    "a product between": (td.tanh(A @ td.tanh(B)) * td.tanh(B), np.tanh(a_ @ np.tanh(b_)) * np.tanh(b_)),
    "what is used later": (
        td.linalg.solve(td.exp(A) + 9 * td.identity(k), td.exp(A) * x),
        np.linalg.solve(np.exp(a_) + 9 * eye, np.exp(a_) * x_),
    ),
    "truth values": (td.sum((A > 0) * td.exp(A), axis=0), ((a_ > 0) * np.exp(a_)).sum(0)),
    "complex numbers": (td.sum(1j * td.exp(A), axis=0) + 2j * x, (1j * np.exp(a_)).sum(0) + 2j * x_),
    "an identity alone": (td.identity(k) * 3 + 0 * A, 3 * eye),
    "pairs": (td.einsum("ijl,il->jl", T, td.exp(A)), np.einsum("ijl,il->jl", t_, np.exp(a_))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name: str, way: str) -> None:
    e, wanted = FORMULAS[name]
    check([e], DATA, SIZES, WAYS[way])
    with small(WAYS[way]):
        np.testing.assert_allclose(td.compile(e)(DATA, **SIZES), wanted, rtol=1e-11, atol=1e-11)


def test_blocks_are_what_is_tested() -> None:
    """Small limits do make blocks, of most formulas."""
    for way, limits in WAYS.items():
        made = sum(check([e], DATA, SIZES, limits) > 0 for e, _ in FORMULAS.values())
        assert made > 0.6 * len(FORMULAS), way
    with small(WAYS["one row"]):
        (block,) = blocks_of(build([FORMULAS["entries"][0]], SIZES, dtype="float64"))
    assert len(block.kernel.body) == 2  # type: ignore[attr-defined]  # of rank two, then times A


@pytest.mark.parametrize(
    "name", ["of a transpose", "a delta", "a delta and its transpose", "a matrix and its transpose"]
)
def test_entries_hang_on_no_block(name: str) -> None:
    """Whatever the pieces are, what is done entry by entry has the same bits."""
    e, _ = FORMULAS[name]
    (wanted,) = unfused([e], DATA, SIZES)
    for block in (1, 2, 3, 11, 1000):
        for threads in (1, 2, 5):
            with small(Limits(block=block, least=0, threads=threads)):
                found = td.compile(e)(DATA)
            np.testing.assert_array_equal(found, wanted)


def test_sums_have_the_same_bits_each_time() -> None:
    f = td.compile((td.sum(td.exp(A), axis=0), td.sum(td.exp(A) * td.outer(x, y)), td.sum(td.sin(A), axis=1)))
    n = 500
    data = {"A": RNG.normal(size=(n, n)), "x": RNG.normal(size=n), "y": RNG.normal(size=n)}
    with small(Limits(block=1 << 12, least=0, threads=3)):
        first = f(data)
    for _ in range(20):
        for one, other in zip(first, f(data), strict=True):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    np.testing.assert_allclose(first[0], np.exp(data["A"]).sum(0), rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1), (1, 4), (4, 1)])
@pytest.mark.parametrize("way", WAYS)
def test_arrays_with_no_entries_or_one(shape: tuple[int, int], way: str) -> None:
    values = {"B": RNG.normal(size=shape), "x": RNG.normal(size=shape[0])}
    e = (td.exp(B) * x[:, None], td.sum(td.exp(B), axis=0), td.sum(td.exp(B), axis=1), td.sum(td.exp(B)))
    with small(WAYS[way]):
        found = td.compile(e)(values)
    entries = np.exp(values["B"])
    for one, other in zip(
        found, (entries * values["x"][:, None], entries.sum(0), entries.sum(1), entries.sum()), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("order", ["transposed", "strided", "reversed", "fortran", "big-endian"])
def test_data_may_lie_anyhow(order: str) -> None:
    e, wanted = FORMULAS["a delta and its transpose"]
    laid = {
        "transposed": a_.T.copy().T,
        "strided": np.repeat(np.repeat(a_, 2, 0), 3, 1)[::2, ::3],
        "reversed": a_[::-1, ::-1].copy()[::-1, ::-1],
        "fortran": np.asfortranarray(a_),
        "big-endian": a_.astype(">f8"),
    }[order]
    with small(WAYS["two threads"]):
        np.testing.assert_allclose(td.compile(e)(A=laid, x=x_.astype(laid.dtype)), wanted, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128, np.longdouble])
def test_other_types_of_numbers(dtype: Any) -> None:
    values = {"A": a_.astype(dtype), "x": x_.astype(dtype), "y": y_.astype(dtype)}
    e = (td.sum(td.exp(A), axis=0), td.exp(A) * td.outer(x, y), td.jacobian(td.sin(A) * x, x))
    wanted = unfused(e, values, SIZES)
    with small(WAYS["three threads"]):
        found = td.compile(e)(values)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=1e-5)


# --- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 3, 6])
def test_the_error_state_of_numpy_holds_in_threads(place: int) -> None:
    values = {"A": a_.copy(), "x": x_}
    values["A"][place] = 0
    with small(WAYS["three threads"]):
        f = td.compile(x / A + td.exp(A))
        with np.errstate(divide="raise", invalid="raise"), pytest.raises(td.BindError, match="divide by zero"):
            f(values)
        with np.errstate(all="ignore"):
            assert np.isinf(f(values)[place]).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning, match="divide by zero"):
                f(values)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            f(values)
        assert any("divide by zero" in str(warning.message) for warning in seen)


def test_after_an_error_the_function_works() -> None:
    e, wanted = FORMULAS["their sum"]
    with small(WAYS["three threads"]):
        f = td.compile((e, td.log(A)))
        with np.errstate(all="raise"), pytest.raises(td.BindError, match="invalid value"):
            f(DATA)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(f(DATA)[0], wanted, rtol=1e-12)


@pytest.mark.parametrize("chunk", range(4))
def test_an_error_in_a_thread_is_raised_when_all_have_ended(chunk: int) -> None:
    running: list[int] = []

    def work(start: int, stop: int, place: int) -> None:
        running.append(place)
        time.sleep(0.01)
        running.remove(place)
        if place == chunk:
            raise ValueError(f"{start}:{stop}")

    with pytest.raises(ValueError, match=f"{10 * chunk // 4}:{10 * (chunk + 1) // 4}"):
        in_blocks(work, 10, 4)
    assert not running


def test_each_chunk_is_done_once() -> None:
    for extent, chunks in [(10, 1), (10, 3), (3, 3), (2, 5), (0, 2)]:
        done: list[tuple[int, int, int]] = []
        in_blocks(lambda start, stop, chunk, seen: seen.append((start, stop, chunk)), extent, chunks, done)
        assert sorted(chunk for *_, chunk in done) == list(range(chunks))
        assert sorted(row for start, stop, _ in done for row in range(start, stop)) == list(range(extent))


def test_blocks_within_blocks() -> None:
    """A function that threads call may go in blocks itself, whose threads are all at work then."""
    done: list[int] = []

    def inner(start: int, stop: int, chunk: int) -> None:
        time.sleep(0.002)
        done.append(chunk)

    worker = threading.Thread(target=in_blocks, args=(lambda *_: in_blocks(inner, 8, 4), 8, 4), daemon=True)
    worker.start()
    worker.join(20)
    assert not worker.is_alive()
    assert sorted(done) == sorted([*range(4)] * 4)


SCRIPT = """
import os, sys, threading, time
import numpy as np, tensordsl as td
k = td.dim("k")
A, x = td.matrix("A", k, k), td.vector("x", k)
f = td.compile(A * td.outer(x, x) + td.exp(A))
data = {"A": np.full((600, 600), 0.5), "x": np.full(600, 2.0)}
wanted = 0.5 * 4 + np.exp(0.5)
assert "in_blocks" in td.plan(A * td.outer(x, x) + td.exp(A), k=600).program.source
assert np.allclose(f(data), wanted)
"""
FORKED = """
child = os.fork()
if child == 0:
    os._exit(0 if np.allclose(f(data), wanted) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert np.allclose(f(data), wanted)
"""
ENDING = """
def late():
    threading.main_thread().join()
    time.sleep(0.1)
    print("late", np.allclose(f(data), wanted))
threading.Thread(target=late).start()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork() -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT + FORKED]
    subprocess.run(command, check=True, timeout=60, env={**os.environ, "OMP_NUM_THREADS": "2"})


def test_a_thread_that_outlives_the_main_one() -> None:
    """When the interpreter ends, no thread can be had any more; what still runs does its blocks alone."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT + ENDING], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.strip() == "late True", found.stderr
