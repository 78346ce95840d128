"""Chunked runs: whatever the tiles, the chunks and the stores are, the value is NumPy's."""

from __future__ import annotations

import ctypes
import functools
import json
import operator
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import DIMS, Case, cases, close

import tensordsl as td
from tensordsl.chunked import engine, running, sources, tiling
from tensordsl.chunked.binding import bind_sources, declared_sources
from tensordsl.chunked.computing import factored_of
from tensordsl.chunked.journal import Journal
from tensordsl.chunked.logs import FileLog
from tensordsl.chunked.plan import ChunkedPlan, shape_of
from tensordsl.chunked.planning import Asked, Budget, plan_chunked
from tensordsl.chunked.runs import Held, job_of, make_block, make_tile
from tensordsl.chunked.sources import CODED, HELD, Source, portions, source_of
from tensordsl.chunked.tiling import FLOPS, Blocks, Tiling, Wanted, choose, product_of

k, m, n = td.dims("k m n")
A, B, x, y = td.matrix("A", k, k), td.matrix("B", k, m), td.vector("x", k), td.vector("y", m)
FLAGSHIP = td.jacobian(A * td.outer(x, x), x)
RNG = np.random.default_rng(7)
DATA = {
    "u": RNG.normal(size=12),
    "z": RNG.normal(size=6),
    "A": RNG.normal(size=(11, 11)),
    "B": RNG.normal(size=(11, 5)),
    "x": RNG.normal(size=11),
    "y": RNG.normal(size=5),
}


MEMORY = {"structured": 5_000, "dense": 30_000}


def flagship(a: np.ndarray, v: np.ndarray) -> np.ndarray:
    eye = np.eye(len(v))
    return np.einsum("ij,j,ik->ijk", a, v, eye) + np.einsum("ij,i,jk->ijk", a, v, eye)


# --- without an engine: any tiles give the same value -------------------------------------------------------------


def plan_of(e: Any, data: dict[str, Any], layout: str | None = None, memory: int = 10**9) -> ChunkedPlan:
    found, sizes = bind_sources([e], data)
    return plan_chunked(e, found, sizes, Budget(memory, 2, 2), Asked(layout))


def with_lengths(plan: ChunkedPlan, lengths: list[int]) -> ChunkedPlan:
    """The plan with other lengths of what may be cut, labels of one class alike."""
    classes = sorted(set(plan.classes.values()))
    new = {root: lengths[place % len(lengths)] for place, root in enumerate(classes)}
    return replace(
        plan,
        tiling=Tiling(
            plan.tiling.sizes,
            {la: max(1, size) if la in plan.whole else new[plan.classes[la]] for la, size in plan.tiling.sizes.items()},
        ),
    )


def value_of(plan: ChunkedPlan) -> Any:
    """The value, every task done here."""
    with Held("test") as held:
        places = {s.name: held.place(s.name, shape_of(s, plan.tiling), plan.dtypes[s.name]) for s in plan.stages}
        if plan.blocks is not None:
            places["result"] = held.place("result", plan.shape, plan.dtype)
            HELD[str(places["result"].place)][...] = 0
        job = job_of(plan, places)
        for stage in plan.stages:
            for tiles in product_of([plan.tiling.count(label) for label in stage.labels]):
                make_tile(job, stage.name, tiles)
        if plan.blocks is None:
            return factored_of(plan, {name: HELD[str(places[name].place)] for name in plan.cores}).todense()
        found = list(plan.blocks.all())
        assert len(found) == len({block for block, _ in found}) == plan.blocks.count()
        for block, terms in found:
            make_block(job, block, terms)
        return HELD[str(places["result"].place)].copy()


def with_jacobians(case: Case) -> list[Any]:
    e = case.expression()
    small = [s for s in case.variables.values() if e.ndim <= 2 and e.ndim + s.ndim <= 4]
    return [e, *[td.jacobian(e, symbol) for symbol in small]]


@settings(max_examples=120)
@given(cases(), st.lists(st.integers(1, 4), min_size=1, max_size=5), st.sampled_from(["structured", "dense"]))
def test_any_tiles_give_the_same_value(case: Case, lengths: list[int], layout: str) -> None:
    for e in with_jacobians(case):
        data = {symbol.name: case.data[symbol.name] for symbol in e.symbols} | DIMS
        with np.errstate(all="ignore"):
            wanted = e.evaluate(data)
            assume(np.all(np.isfinite(wanted)))
            found = value_of(with_lengths(plan_of(e, data, layout), lengths))
        assert np.shape(found) == np.shape(wanted)
        assert close(found, wanted, 1e-9)


FORMULAS = {
    "product": A @ B,
    "chain": A @ (A @ B),
    "functions of a product": td.exp(A @ A) * x,
    "sum": td.sum(A * A),
    "weights": B.T @ td.diag(td.sigmoid(B @ y)) @ B,
    "inverse": td.linalg.inv(B.T @ B + td.identity(m)) @ y,
    "outer": td.exp(td.outer(B @ y, y)),
    "vec": td.vec(A) * 2,
    "kron": td.sin(td.kron(x, y)),
    "two sums": A @ A + td.outer(x, x),
    "logsumexp": td.logsumexp(B @ y),
    "diagonal": td.exp(td.diag(x)),
    "flagship": FLAGSHIP,
    "kronecker derivative": td.jacobian(B.T @ A @ B, B),
    "jacobian matrix": td.jacobian_matrix(A * td.outer(x, x), x),
    "hessian": td.hessian(td.sum(td.log(1 + td.exp(B @ y))), y),
    "one column": A[:, 2] * x,
    "from an end": A[1:] @ x,
    "scattered": td.jacobian(A[2] * x, A),
    "thin": td.jacobian(td.sum((A - B @ B.T) ** 2), A),
    "trace": td.trace(A @ A),
    "ones": td.ones(k, m) + td.outer(x, y),
    "backwards": td.matrix("A", 11, 11)[::-1, ::-2] @ td.vector("z", 6),
    "a slice of a group": td.unvec(td.vector("u", 12), (3, 4))[:, ::2],
    "a diagonal": td.diagonal(td.exp(A @ A)) * x,
    "four factors": td.einsum("ij,jk,kl,lm->im", A, A, A, B),
    "norm": td.frobenius(FLAGSHIP, FLAGSHIP),
    "sums of one array": (A * A).sum(axis=1) + A @ x - A.T @ x + td.diagonal(A) * x,
    "sums of one slice": td.sum(A[1:, 2:] * A[1:, 2:]) - td.sum(A[1:, 2:]) + td.sum(A[2:, 1:]),
    "sums of other lengths": td.sum(A[:3] * A[:3]) + td.sum(A[:5]) - td.sum(A[:5, :7] * A[:5, :7]),
    "sums of one group": td.vec(A) @ td.vec(A) + 3 * td.vec(A).sum(),
    "sums of sums": td.sum(td.exp(A @ A) * A) + td.sum(td.exp(A @ A)),
}


@pytest.mark.parametrize("layout", ["structured", "dense"])
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("lengths", [[1], [2, 3], [4], [100]], ids=str)
def test_formulas(name: str, layout: str, lengths: list[int]) -> None:
    e = FORMULAS[name]
    data = {symbol.name: DATA[symbol.name] for symbol in e.symbols} | {"k": 11, "m": 5}
    wanted = e.evaluate(data)
    found = value_of(with_lengths(plan_of(e, data, layout), lengths))
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


E = td.matrix("A", 11, 11)
VIEWS = [E, E.T, E[:4], E[:7], E[3:], E[:, 2:], E[1:8, :6], E[::2], E[::-1, ::3], E[2], E[:, 5], td.diagonal(E)]
ENTRIES = [lambda v: v, lambda v: v * v, td.exp, lambda v: v * td.exp(-v)]


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from(VIEWS), st.sampled_from(ENTRIES), st.sampled_from([1, -1, 3])), min_size=2, max_size=5
    ),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_sums_of_any_views_of_one_array(terms: list[Any], lengths: list[int]) -> None:
    """Those that go through it in the same way are one sum; of others none is taken for another."""
    e = functools.reduce(operator.add, (number * td.sum(entries(view)) for view, entries, number in terms))
    data = {"A": DATA["A"]}
    np.testing.assert_allclose(value_of(with_lengths(plan_of(e, data), lengths)), e.evaluate(data), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float16", "float32", "complex64", "complex128"])
def test_dtypes_are_those_of_numpy(dtype: str) -> None:
    data = {"A": (5 * RNG.normal(size=(11, 11))).astype(dtype), "x": (5 * RNG.normal(size=11)).astype(dtype)}
    for e in (A @ x, td.sum(A * A), FLAGSHIP):
        wanted = e.evaluate(data)
        for layout in ("structured", "dense"):
            plan = plan_of(e, data, layout)
            found = value_of(with_lengths(plan, [3]))
            assert plan.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, rtol=1e-2 if dtype == "float16" else 1e-4)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_empty_axes_and_axes_of_one(size: int) -> None:
    data = {"A": RNG.normal(size=(size, size)), "x": RNG.normal(size=size), "B": RNG.normal(size=(size, 3))}
    for e in (A @ B, td.sum(A), FLAGSHIP, td.exp(x)):
        given_data = {symbol.name: data[symbol.name] for symbol in e.symbols}
        for layout in ("structured", "dense"):
            np.testing.assert_allclose(value_of(plan_of(e, given_data, layout)), e.evaluate(given_data))


def test_a_structural_zero_is_zero_whatever_the_data_hold() -> None:
    data = {"A": DATA["A"].copy(), "x": DATA["x"].copy()}
    data["A"][2, 3], data["x"][5] = np.inf, np.nan
    found = value_of(with_lengths(plan_of(FLAGSHIP, data, "dense"), [3]))
    np.testing.assert_array_equal(found, FLAGSHIP.evaluate(data))


@pytest.mark.parametrize("chunk", [2, 5, 11])
def test_zeros_keep_their_signs_and_what_is_not_finite_its_place(chunk: int, tmp_path: Path) -> None:
    """In any chunks, in either layout and by dask: the bits are those of NumPy, of chunks of -0.0 alone too."""
    a = DATA["A"].copy()
    a[:5], a[7, 3], a[8, 1], a[9, 9] = -0.0, np.inf, -np.inf, np.nan
    v = np.abs(DATA["x"])
    v[4] = np.inf
    e = td.maximum(A, -7) * x
    zarr.create_array(str(tmp_path / "A.zarr"), data=a, chunks=(chunk, chunk), config={"write_empty_chunks": True})
    stored = {"A": tmp_path / "A.zarr", "x": v}
    with np.errstate(all="ignore"):
        wanted = np.maximum(a, -7) * v
        for layout in ("structured", "dense"):
            td.store(e, stored, tmp_path / f"{layout}.zarr", layout=layout, memory=30_000)
        given_data = {"A": pytest.importorskip("dask.array").from_array(a, chunks=chunk), "x": v}
        lazy = td.compile(e)(given_data).compute(scheduler="synchronous")  # threads do not take np.errstate along
    structured = td.open(tmp_path / "structured.zarr").todense()
    for found in (structured, zarr.open_array(tmp_path / "dense.zarr", mode="r")[...], lazy):
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


def test_more_labels_than_letters(tmp_path: Path) -> None:
    """A chain of 56 matrices is one contraction of 57 labels."""
    chain = [td.matrix(f"M{place}", 3, 3) for place in range(56)]
    values = np.random.default_rng(9).normal(size=(56, 3, 3))
    e = functools.reduce(operator.matmul, chain)
    data = {symbol.name: value for symbol, value in zip(chain, values, strict=True)}
    td.store(e, data, tmp_path / "J.zarr", layout="dense", memory=20_000)
    found = zarr.open_array(tmp_path / "J.zarr", mode="r")[...]
    np.testing.assert_allclose(found, functools.reduce(operator.matmul, values), rtol=1e-9)


# --- what is planned ----------------------------------------------------------------------------------------------


def test_blocks_are_counted_without_listing() -> None:
    """Two of three axes have one tile: 3 n² - 2 n blocks for two terms are 2 n² - n."""
    tiling = Tiling(dict.fromkeys(range(4), 10**6), dict.fromkeys(range(4), 1000))
    blocks = Blocks([((0,), (1,), (0,)), ((2,), (3,), (3,))], tiling)
    begun = time.perf_counter()
    assert blocks.count() == 2 * 1000**2 - 1000
    assert time.perf_counter() - begun < 0.1
    small = Blocks(
        [((0,), (1,), (0,)), ((2,), (3,), (3,))], Tiling(dict.fromkeys(range(4), 7), dict.fromkeys(range(4), 2))
    )
    every = [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    assert sorted(block for block, _ in small.all()) == [at for at in every if at[0] == at[2] or at[1] == at[2]]


def test_a_plan_of_a_million_tiles_takes_no_time() -> None:
    data = {"A": np.broadcast_to(np.float64(1), (50_000, 50_000)), "x": np.ones(50_000)}
    found, sizes = bind_sources([FLAGSHIP], data)
    begun = time.perf_counter()
    plan = plan_chunked(FLAGSHIP, found, sizes, Budget(2**21, 2, 2), Asked("dense"))
    assert plan.tasks > 10**6
    assert "tasks" in str(plan)
    assert time.perf_counter() - begun < 2


def test_the_peak_of_a_task_keeps_within_the_memory() -> None:
    data = {"A": np.broadcast_to(np.float64(1), (5000, 5000)), "B": np.broadcast_to(np.float64(1), (5000, 3000))}
    for memory in (10**6, 10**7, 10**8):
        plan = plan_of(A @ B, data, memory=memory)
        assert 2 * plan.peak_bytes <= 0.6 * memory
    few, many = plan_of(A @ B, data, memory=10**8), plan_of(A @ B, data, memory=10**7)
    assert few.bytes_read < many.bytes_read  # more memory, less traffic
    with pytest.raises(td.PlanError, match="Give memory="):
        plan_of(td.linalg.inv(A), {"A": data["A"]}, memory=10**7)


def test_chunks_that_are_written_are_parts_of_tiles() -> None:
    """As long as those of the data, or of 8 MiB at the most; a tile is whole ones, but for the last."""
    data = {"A": np.broadcast_to(np.float64(1), (5000, 5000)), "B": np.broadcast_to(np.float64(1), (5000, 3000))}
    declared = td.plan(A @ B, chunks={"A": (250, 500), "B": (500, 200)}, memory="1GB", k=5000, m=3000)
    for plan in (plan_of(A @ B, data, memory=10**9), plan_of(A @ B, data, memory=10**7), declared):
        assert 8 * np.prod(plan.chunks) <= 2**23
        for chunk, tile, size in zip(plan.chunks, plan.block_shape, plan.shape, strict=True):
            assert tile % chunk == 0 or tile >= size
    assert [tile % unit for tile, unit in zip(declared.block_shape, (250, 200), strict=True)] == [0, 0]
    assert [chunk % unit for chunk, unit in zip(declared.chunks, (250, 200), strict=True)] == [0, 0]
    assert 8 * np.prod(declared.block_shape) > 2**23  # of several chunks each


def test_data_are_read_once_where_tiles_can_be_whole_chunks() -> None:
    """A tensor of 16 GB in chunks of 74 MB, times two matrices, within 2 GiB."""
    tensor, b, c = td.tensor("T", 1260, 1260, 1260), td.tensor("B", 1260, 16), td.tensor("C", 1260, 16)
    e = td.einsum("ijk,jr,kr->ir", tensor, b, c)
    plan = td.plan(e, chunks={"T": (210,) * 3, "B": (1260, 16), "C": (1260, 16)}, memory="2GiB")
    assert plan.bytes_read < 1.05 * 8 * 1260**3


def test_nothing_is_read_ahead_where_there_is_no_room_for_it() -> None:
    """Of two matrices in one chunk of 8 MB each: two chunks and pieces of them are there at a time, or four."""
    e = td.sum(A * td.matrix("C", k, k))
    found, sizes = declared_sources([e], {"k": 1000}, 1000)
    much, little = (plan_chunked(e, found, sizes, Budget(memory * 10**6, 2, 2)).tiling for memory in (400, 70))
    assert much.ahead
    assert not little.ahead
    with pytest.raises(td.PlanError, match="Give memory="):
        plan_chunked(e, found, sizes, Budget(50 * 10**6, 2, 2))
    found, sizes = declared_sources([A @ B], {"k": 12000, "m": 10000}, 1000)
    assert not plan_chunked(A @ B, found, sizes, Budget(2**31, 2, 2)).tiling.ahead  # computing takes longer


@pytest.mark.parametrize(("e", "size", "chunk", "memory"), [(A @ A @ A, 8000, 500, 512), (A @ B, 12_000, 1000, 2147)])
def test_fewer_tasks_at_a_time_move_less(e: td.Expr, size: int, chunk: int, memory: int) -> None:
    """One task with all of the memory, and all threads of BLAS, reads less than two, in about the same time."""
    found, sizes = declared_sources([e], {"k": size, "m": size}, chunk)
    two, chosen = (plan_chunked(e, found, sizes, Budget(memory * 10**6, 2, 2, 1, fewer)) for fewer in (False, True))
    assert (two.slots, two.at_once, two.blas) == (2, 2, 1)
    assert (chosen.slots, chosen.at_once, chosen.blas) == (1, 1, 2)
    assert chosen.bytes_moved < 0.8 * two.bytes_moved
    assert chosen.seconds < 1.25 * two.seconds
    assert chosen.peak_bytes < 0.6e6 * memory


def test_as_many_tasks_at_a_time_where_nothing_is_gained() -> None:
    for e in (A * 2, td.exp(A) @ x, FLAGSHIP):
        found, sizes = declared_sources([e], {"k": 8000}, 500)
        assert plan_chunked(e, found, sizes, Budget(512 * 10**6, 8, 8, 1, True)).slots == 8


def test_not_so_few_that_it_takes_longer() -> None:
    """One task at a time would read yet a quarter less, and wait for all of it."""
    found, sizes = declared_sources([A @ B], {"k": 2000, "m": 2000}, 125)
    each = [plan_chunked(A @ B, found, sizes, Budget(3 * 10**8, n, n, 8 // n)) for n in (8, 4, 2, 1)]
    assert each[-1].bytes_moved < 0.8 * each[-2].bytes_moved
    assert each[-1].seconds > 1.25 * each[-2].seconds
    assert plan_chunked(A @ B, found, sizes, Budget(3 * 10**8, 8, 8, 1, True)).slots == 2


@pytest.mark.parametrize(("slots", "halved"), [(1, []), (2, [1]), (3, [1]), (7, [3, 1]), (16, [8, 4, 2, 1])])
def test_tasks_that_are_fewer_have_the_threads_of_the_others(slots: int, halved: list[int]) -> None:
    found = list(Budget(10**9, slots, slots, 1, True).choices())
    assert [each.slots for each in found] == [slots, *halved]
    assert all(each.blas == slots // each.slots and each.at_once == each.slots for each in found)
    assert len(list(Budget(10**9, slots, slots).choices())) == 1


def test_fewer_tasks_at_a_time_where_there_is_no_room_for_more() -> None:
    """A function of a whole matrix of 8 MB, that is asked for with less memory than it takes twice."""
    e = td.linalg.inv(A)
    found, sizes = declared_sources([e], {"k": 1000}, 100)
    with pytest.raises(td.PlanError, match="with 4 at a time"):
        plan_chunked(e, found, sizes, Budget(80 * 10**6, 4, 4))
    plan = plan_chunked(e, found, sizes, Budget(80 * 10**6, 4, 4, 1, True))
    assert (plan.slots, plan.blas) == (1, 4)
    with pytest.raises(td.PlanError, match="with 1 at a time") as told:
        plan_chunked(e, found, sizes, Budget(20 * 10**6, 4, 4, 1, True))
    least = int(re.search(r"memory=(\d+)", str(told.value)).group(1))  # type: ignore[union-attr]
    assert plan_chunked(e, found, sizes, Budget(least, 4, 4, 1, True)).slots == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_that_are_asked_for_are_kept(threads: int, tmp_path: Path) -> None:
    report = td.store(A @ A, {"A": DATA["A"]}, tmp_path / "J.zarr", memory=50_000, threads=threads)
    assert report.plan.slots == threads
    np.testing.assert_allclose(zarr.open_array(tmp_path / "J.zarr")[...], DATA["A"] @ DATA["A"])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each piece that is read, in whole chunks."""
    counted: list[int] = []
    read = Source.read

    def counting(source: Source, region: tuple[slice, ...]) -> Any:
        chunks = source.chunks or (1,) * len(region)
        touched = [-(-r.stop // c) * c - r.start // c * c for r, c in zip(region, chunks, strict=True)]
        counted.append(8 * int(np.prod([min(n, length) for n, length in zip(touched, source.shape, strict=True)])))
        return read(source, region)

    monkeypatch.setattr(Source, "read", counting)
    return counted


@pytest.mark.parametrize("memory", [60_000, 150_000, 10**7])
@pytest.mark.parametrize("chunk", [8, 12])
def test_what_is_read_is_what_was_planned(
    chunk: int, memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    """Of the data and of what is made on the way.

    Where tiles are no whole chunks along one of the axes, the plan may say somewhat more.
    """
    size = 96
    a = RNG.normal(size=(size, size))
    zarr.create_array(str(tmp_path / "A.zarr"), data=a, chunks=(8, chunk))
    monkeypatch.setattr("tensordsl.chunked.storing.HELD_SHARE", 0)  # what is made on the way goes to a store
    report = td.store(A @ A @ A, {"A": str(tmp_path / "A.zarr")}, tmp_path / "J.zarr", memory=memory, threads=1)
    assert (0.99 if chunk == 8 else 0.8) * report.plan.bytes_read <= sum(counted) <= 1.01 * report.plan.bytes_read
    np.testing.assert_allclose(zarr.open_array(tmp_path / "J.zarr")[...], a @ a @ a)


REDUCED = {  # each with how often it has to read A, and its diagonal in chunks of 8
    "sum": (td.sum(FLAGSHIP), 1, 0),
    "norm": (td.frobenius(FLAGSHIP, FLAGSHIP), 1, 1),
    "trace": (td.trace(A), 0, 1),
    "rows": ((A * A).sum(axis=1) + A @ x, 1, 0),
    "rows and columns": (A.T @ x + A @ x, 2, 0),
    "one row": (td.sum(A[2]), 0, 1),
}


@pytest.mark.parametrize("memory", [60_000, 10**7])
@pytest.mark.parametrize("name", REDUCED)
def test_sums_that_read_the_same_read_it_once(name: str, memory: int, tmp_path: Path, counted: list[int]) -> None:
    """And of a diagonal the chunks that it goes through, or blocks of several where that makes less tasks."""
    e, whole, diagonal = REDUCED[name]
    a, v = RNG.normal(size=(96, 96)), RNG.normal(size=96)
    zarr.create_array(str(tmp_path / "A.zarr"), data=a, chunks=(8, 8))
    data = {symbol: value for symbol, value in ((A, tmp_path / "A.zarr"), (x, v)) if symbol in e.symbols}
    plan = td.plan(e, data, memory=memory, layout="structured")  # which `evaluate` takes
    found = e.evaluate(data, memory=memory)
    np.testing.assert_allclose(found, e.evaluate({A: a, x: v}))
    least = 8 * (whole * 96**2 + diagonal * 8 * 96)
    others = 8 * 96 * 4 * (96 // 8)  # vectors, again for each tile of a row at the most
    more = 8 * diagonal * 96**2 if memory > 10**6 else 0
    assert least <= sum(counted) <= least + others + more
    assert sum(counted) == pytest.approx(plan.bytes_read, rel=0.01)
    assert 8 * max(96**2 * (whole > 0), 8 * 96 * diagonal) <= plan.once_bytes <= plan.bytes_moved


@pytest.mark.parametrize("memory", [10**6, 10**7, 10**8])
def test_the_bound_of_a_product_of_matrices(memory: int) -> None:
    """2mnk/√M - 2M words, where that is more than each array once."""
    sizes = {"k": 9_000, "m": 8_000, "n": 7_000}
    e = td.matrix("P", k, m) @ td.matrix("Q", m, n)
    plan = td.plan(e, chunks=500 if memory > 10**7 else 50, memory=memory, **sizes)
    words = memory / 8
    least = 2 * 9_000 * 8_000 * 7_000 / words**0.5 - 2 * words
    once = 9_000 * 8_000 + 8_000 * 7_000 + 9_000 * 7_000
    assert plan.bound_bytes == pytest.approx(8 * max(least, once), rel=1e-6)
    assert plan.bytes_moved < 4 * plan.bound_bytes


def test_what_is_made_on_the_way_is_read_in_other_lengths() -> None:
    """The tiles of the first product are large, and what the second one sums over is cut short."""
    found, sizes = declared_sources([A @ A @ A], {"k": 8000}, 500)
    plan = plan_chunked(A @ A @ A, found, sizes, Budget(512 * 10**6, 1, 1, 2))
    ((made, read),) = [pair for pair in plan.tiling.readers.items() if len({*pair[1], pair[0]}) > 1][-1:]
    lengths = plan.tiling.lengths
    assert lengths[made] > max(lengths[label] for label in read)
    assert max(plan.chunks_of(plan.stages[0])) <= max(lengths[label] for label in read)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("spec", "shapes", "flops", "batch"),
    [
        ("bij,bjk->bik", ((4, 900, 800), (4, 800, 700)), 4 * 900 * 800 * 700, 1),
        ("abcd,cde->abe", ((30, 30, 20, 40), (20, 40, 700)), 900 * 800 * 700, 1),
        ("ijl,jlk->ik", ((900, 20, 40), (20, 40, 700)), 900 * 800 * 700, 1),
    ],
)
def test_the_bound_of_products_of_tensors(
    spec: str, shapes: tuple[tuple[int, ...], ...], flops: int, batch: int, workers: int
) -> None:
    """That of matrices with groups of axes for axes, and as much less as more workers hold; more than each once."""
    e = td.einsum(spec, *(td.tensor(name, *shape) for name, shape in zip("PQ", shapes, strict=True)))
    found, sizes = declared_sources([e], {}, 5)
    plan = plan_chunked(e, found, sizes, Budget(80_000, workers, 1), Asked("dense"))
    words = 10_000
    assert plan.bound_bytes == pytest.approx(8 * (2 * flops / words**0.5 - 2 * words * workers), rel=1e-6)
    assert plan.bound_bytes > plan.once_bytes


def test_an_array_times_itself_is_bounded_by_what_it_holds() -> None:
    """An entry that is in memory may serve as both factors."""
    plan = td.plan(A @ A.T, k=9_000, chunks=50, memory="1MB")
    assert plan.bound_bytes == plan.once_bytes == 2 * 8 * 9_000**2


BOUNDED = ["ij,jk->ik", "ijl,jlk->ik", "bij,bjk->bik", "i,j->ij", "ij,ij->i", "abcd,cde->abe", "ij,jk->ijk"]


@given(st.sampled_from(BOUNDED), st.lists(st.sampled_from([1, 3, 20, 60]), min_size=5, max_size=5), st.data())
@settings(deadline=None)
def test_no_plan_moves_less_than_the_bound(spec: str, extents: list[int], data: st.DataObject) -> None:
    left, right = spec.partition("->")[0].split(",")
    letters = dict(zip(sorted(set(left + right)), extents, strict=False))
    p, q = (td.tensor(name, *(letters[la] for la in own)) for name, own in (("P", left), ("Q", right)))
    found, sizes = declared_sources([td.einsum(spec, p, q)], {}, 5)
    memory = data.draw(st.sampled_from([3_000, 10_000, 40_000, 10**6]))
    try:
        plan = plan_chunked(td.einsum(spec, p, q), found, sizes, Budget(memory, 1, 1), Asked("dense"))
    except td.PlanError:
        assume(False)  # of no use where no task fits
    assert sum(8 * np.prod([letters[la] for la in own]) for own in (left, right)) <= plan.bound_bytes
    assert plan.bound_bytes <= plan.bytes_moved


def test_the_bound_of_nothing() -> None:
    """A sum over no terms: all that has to be moved is the result."""
    plan = td.plan(A @ B, k=0, m=3, chunks=2, memory="1MB"), td.plan(B.T @ B, k=0, m=3, chunks=2, memory="1MB")
    assert [each.bound_bytes for each in plan] == [0, 8 * 9]
    assert "the least" in str(plan[1])


def test_the_bound_where_chunks_are_asked_for() -> None:
    """Of cubes that a δ goes through the zeros are written too, and one third of them by both terms."""
    found, sizes = declared_sources([FLAGSHIP], {"k": 40}, 10)
    free, cubes = (plan_chunked(FLAGSHIP, found, sizes, Budget(10**6, 2, 2), Asked("dense", c)) for c in (None, 10))
    assert free.bound_bytes == 8 * (40 * 40 + 40 + 2 * 40 * 40)
    assert cubes.bound_bytes == 8 * (40 * 40 + 40 + (2 * 4**2 - 4) * 10**3)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=0, max_size=4),
)
def test_parts_that_are_written_at_a_time(axes: list[tuple[int, int]]) -> None:
    """Each entry once, in whole chunks, no more of them than are coded side by side."""
    shape, chunks = [size for size, _ in axes], [chunk for _, chunk in axes]
    times_written = np.zeros(shape, int)
    for part in portions(shape, chunks):
        times_written[part] += 1
        assert all(each.start % chunk == 0 for each, chunk in zip(part, chunks, strict=True))
        ends = zip(part, chunks, shape, strict=True)
        assert all(each.stop % chunk == 0 or each.stop == size for each, chunk, size in ends)
        assert np.prod([-(-(p.stop - p.start) // c) for p, c in zip(part, chunks, strict=True)]) <= CODED
    assert (times_written == 1).all()


def test_products_are_added_in_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a sum of 8 MB no second one is made; its value is NumPy's."""
    sizes = (1024, 3000, 1000)
    a, b = (RNG.normal(size=shape) for shape in (sizes[:2], sizes[1:]))
    zarr.create_array(str(tmp_path / "P.zarr"), data=a, chunks=(100, 90))
    zarr.create_array(str(tmp_path / "Q.zarr"), data=b, chunks=(90, 110))
    e = td.tensor("P", *sizes[:2]) @ td.tensor("Q", *sizes[1:])
    made = []
    call = running.call

    def seen(*given: Any, **more: Any) -> Any:
        made.append(call(*given, **more))
        return made[-1]

    monkeypatch.setattr(running, "call", seen)
    data = {"P": tmp_path / "P.zarr", "Q": tmp_path / "Q.zarr"}
    report = td.store(e, data, tmp_path / "R.zarr", memory="60MB")
    np.testing.assert_allclose(zarr.open_array(str(tmp_path / "R.zarr"), mode="r")[...], a @ b, rtol=1e-10, atol=1e-10)
    largest = np.prod(report.plan.block_shape)
    assert largest > tiling.SLABBED
    assert all(report.plan.tiling.counts(part.summed) > 1 for stage in report.plan.steps for part in stage.parts)
    assert made
    assert max(np.size(value) for value in made) <= largest / tiling.SLABS + largest / min(report.plan.block_shape)


@pytest.mark.parametrize("codec", [None, "auto"])
@pytest.mark.parametrize("shards", [None, (8, 10)])
def test_files_are_read_as_zarr_reads_them(codec: Any, shards: Any, tmp_path: Path) -> None:
    """Chunks that are there, that are absent, and parts of shards."""
    array = zarr.create_array(
        str(tmp_path / "a.zarr"),
        shape=(11, 23),
        chunks=(4, 5),
        shards=shards,
        dtype="f4",
        compressors=codec,
        fill_value=7,
    )
    array[:8, 3:20] = RNG.normal(size=(8, 17))
    source = source_of("a", tmp_path / "a.zarr")
    for region in ((slice(0, 11), slice(0, 23)), (slice(2, 9), slice(19, 23)), (slice(9, 11), slice(1, 2))):
        np.testing.assert_array_equal(source.read(region), array[region])


def test_the_next_piece_is_read_while_one_is_worked_on() -> None:
    """Never more than one ahead, in order, and errors come where the piece does."""
    begun: list[int] = []

    def read(item: int) -> int:
        begun.append(item)
        if item == 4:
            raise ValueError("the fifth")
        return 10 * item

    found = running.ahead(read, iter(range(9)))
    for place in range(4):
        assert next(found) == 10 * place
        assert len(begun) <= place + 2
    with pytest.raises(ValueError, match="the fifth"):
        next(found)
    assert list(running.ahead(read, iter(()))) == []


def test_the_least_memory_that_is_named_is_enough() -> None:
    with pytest.raises(td.PlanError) as caught:
        plan_of(FLAGSHIP, {"A": DATA["A"], "x": DATA["x"]}, "dense", memory=20)
    least = int(str(caught.value).split("memory=")[1].split()[0])
    assert 2 * plan_of(FLAGSHIP, {"A": DATA["A"], "x": DATA["x"]}, "dense", memory=least).peak_bytes <= 0.6 * least


def test_tiles_are_whole_chunks_where_that_fits() -> None:
    sizes = {0: 1000, 1: 1000}
    wanted = Wanted({0: 0, 1: 1}, {0: 30, 1: 40})
    tiling, _ = choose(sizes, wanted, lambda t: t.entries((0, 1)), lambda t: t.counts((0, 1)), 10**5)
    assert tiling.lengths[0] % 30 == 0 or tiling.lengths[0] == 1000
    assert tiling.lengths[1] % 40 == 0 or tiling.lengths[1] == 1000


# --- stores -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Any]:
    """The data in files of several formats, in chunks that fit nothing."""
    paths: dict[str, Any] = {}
    zarr.create_array(str(tmp_path / "A.zarr"), data=DATA["A"], chunks=(4, 3))
    np.save(tmp_path / "x.npy", DATA["x"])
    paths |= {"A": tmp_path / "A.zarr", "x": str(tmp_path / "x.npy")}
    return paths


def test_a_structured_store(stored: dict[str, Any], tmp_path: Path) -> None:
    report = td.store(FLAGSHIP, stored, tmp_path / "J.zarr", memory=5_000)
    assert report.tasks > 2
    assert sorted(found.name for found in tmp_path.iterdir()) == ["A.zarr", "J.zarr", "x.npy"]  # and nothing else
    J, wanted = td.open(tmp_path / "J.zarr"), flagship(DATA["A"], DATA["x"])
    v, w = RNG.normal(size=11), RNG.normal(size=(11, 2))
    np.testing.assert_allclose(J.todense(), wanted)
    np.testing.assert_allclose(J @ v, wanted @ v)
    np.testing.assert_allclose(v @ J, np.tensordot(v, wanted, 1))
    np.testing.assert_allclose(J.tensordot(w), np.tensordot(wanted, w, 1))
    np.testing.assert_allclose(J[:, :, 3], wanted[:, :, 3])
    np.testing.assert_allclose(J[2, 1:, 3], wanted[2, 1:, 3])
    np.testing.assert_allclose(J.sum(axis=2), wanted.sum(axis=2))
    np.testing.assert_allclose(J.norm(), np.linalg.norm(wanted))
    entries = J.tocoo()
    assert entries.nnz == 2 * 11**2
    assert entries.shape == wanted.shape
    assert J.shape == wanted.shape
    assert "δ" in repr(J)


SCATTERED = {
    "one entry": td.jacobian(A[2] * x, A),
    "a slice": td.jacobian(td.matrix("E", 11, 11)[1::2, 3], td.matrix("E", 11, 11)),
    "a list": td.jacobian(A[[3, 0, 3]] @ x, A),
    "a pattern": td.jacobian(td.vech(td.matrix("E", 11, 11)), td.matrix("E", 11, 11)),
}


@pytest.mark.parametrize("name", SCATTERED)
def test_entries_that_scatter_are_stored_where_they_go(name: str, stored: dict[str, Any], tmp_path: Path) -> None:
    e = SCATTERED[name]
    data = {symbol.name: stored[symbol.name] for symbol in e.symbols} | {"k": 11}
    td.store(e, data, tmp_path / "J.zarr", memory=60_000)
    wanted = e.evaluate({symbol.name: DATA[symbol.name] for symbol in e.symbols} | {"k": 11})
    np.testing.assert_allclose(td.open(tmp_path / "J.zarr").todense(), wanted)


def test_a_structured_store_is_read_with_zarr_alone(stored: dict[str, Any], tmp_path: Path) -> None:
    """What docs/stores.md says of the format, with no help of ours."""
    td.store(FLAGSHIP, stored, tmp_path / "J.zarr")
    group = zarr.open_group(str(tmp_path / "J.zarr"), mode="r")
    said = group.attrs["tensordsl"]
    found = np.zeros(said["shape"])
    for term in said["terms"]:
        operands: list[Any] = []
        for core in term["cores"]:
            operands += [group[core["array"]][...], [list(term["sizes"]).index(label) for label in core["labels"]]]
        output = [[list(term["sizes"]).index(label) for label in axis] for axis in term["output"]]
        distinct = list(dict.fromkeys(label for axis in output for label in axis))
        value = np.einsum(*operands, distinct) * term["coefficient"]
        where = np.einsum(found, [label for axis in output for label in axis], distinct)
        where += value
    np.testing.assert_allclose(found, flagship(DATA["A"], DATA["x"]))


def test_a_dense_store_has_no_zero_chunks(stored: dict[str, Any], tmp_path: Path) -> None:
    report = td.store(FLAGSHIP, stored, tmp_path / "D.zarr", layout="dense", memory=60_000)
    found = zarr.open_array(str(tmp_path / "D.zarr"), mode="r")
    np.testing.assert_array_equal(found[...], FLAGSHIP.evaluate(DATA | {"A": DATA["A"]}))
    assert found.nchunks_initialized == report.plan.blocks.count() < found.nchunks


def test_a_target_is_never_one_of_the_inputs(stored: dict[str, Any], tmp_path: Path) -> None:
    td.store(FLAGSHIP, stored, tmp_path / "J.zarr")
    J = td.open(tmp_path / "J.zarr")
    for resume in (True, False):
        with pytest.raises(td.BindError, match="holds the data"):
            td.store(J.expression[:, :5], J.data, tmp_path / "J.zarr", resume=resume)
        with pytest.raises(td.BindError, match="holds the data"):
            td.store(2 * A, {"A": stored["A"]}, stored["A"], resume=resume)
    np.testing.assert_allclose(J.todense(), flagship(DATA["A"], DATA["x"]))
    td.store(J.expression[:, :5], J.data, tmp_path / "part.zarr")
    np.testing.assert_allclose(td.open(tmp_path / "part.zarr").todense(), J.todense()[:, :5])


def test_data_that_change_under_one_name(tmp_path: Path) -> None:
    """A file that is replaced is read anew, by one process too; other arrays of dask are other data."""
    da = pytest.importorskip("dask.array")
    place = tmp_path / "x.npy"
    for number in (1.0, 2.0):
        np.save(tmp_path / "new.npy", np.full(5, number))
        os.replace(tmp_path / "new.npy", place)
        for given_data in (place, np.load(place, mmap_mode="r"), da.full(5, number)):
            td.store(3 * x, {"x": given_data}, tmp_path / f"{number}.zarr", resume=False)
            np.testing.assert_array_equal(zarr.open_array(str(tmp_path / f"{number}.zarr"), mode="r")[...], 3 * number)
    td.store(3 * x, {"x": da.ones(5)}, tmp_path / "J.zarr")
    with pytest.raises(td.BindError, match="inputs"):
        td.store(3 * x, {"x": da.zeros(5)}, tmp_path / "J.zarr")


@pytest.mark.parametrize("layout", ["structured", "dense"])
def test_places_that_do_not_lie_on_an_axis(layout: str, tmp_path: Path) -> None:
    """Refused when the data are bound, as in memory: read from the wrong end they would give other numbers."""
    short = {"x": np.arange(3.0), "A": np.ones((3, 3))}
    for e in (x[k - 5] * 2, x[:4] * 2, td.jacobian(A[[5, 1]] @ x, x)):
        data = {symbol.name: short[symbol.name] for symbol in e.symbols}
        with pytest.raises(td.BindError, match=r"does not lie on an axis of size 3"):
            td.store(e, data, tmp_path / "J.zarr", layout=layout)
        with pytest.raises(td.BindError, match=r"does not lie on an axis of size 3"):
            td.plan(e, k=3, memory="1MB", chunks=2)
    with pytest.raises(td.BindError, match=r"The size k must be a whole number that is not negative, not 2\.5"):
        td.store(td.ones(k, k) * 2, {"k": 2.5}, tmp_path / "J.zarr")


def test_chains_are_products_of_two(stored: dict[str, Any]) -> None:
    """A @ A @ B by way of A @ B: once through each product, however many tiles there are."""
    big = {"A": np.broadcast_to(np.float64(1), (3000, 3000)), "B": np.broadcast_to(np.float64(1), (3000, 2000))}
    plan = plan_of(A @ (A @ B), big, memory=2 * 10**7)
    assert plan.flops == 2 * 2 * 3000 * 3000 * 2000
    assert len(plan.steps) == 2
    assert plan_of(A @ B, big).flops == 2 * 3000 * 3000 * 2000


def test_a_size_that_happens_to_be_one_is_cut_like_others() -> None:
    data = {"A": np.broadcast_to(np.float64(1), (5000, 5000)), "B": np.ones((5000, 1))}
    assert 2 * plan_of(A @ B, data, memory=10**7).peak_bytes < 6 * 10**6


def test_chunks_that_are_decoded_whole_count(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "A.zarr"), shape=(2000, 2000), chunks=(2000, 2000), dtype="f8")
    with pytest.raises(td.PlanError, match="Give memory="):
        plan_of(A @ A, {"A": tmp_path / "A.zarr"}, memory=10**7)  # a chunk has 32 MB
    plan_of(A @ A, {"A": tmp_path / "A.zarr"}, memory=10**9)


def test_results_that_are_not_structured_are_dense(stored: dict[str, Any], tmp_path: Path) -> None:
    td.store(A @ A, {"A": stored["A"]}, tmp_path / "P.zarr", memory=20_000)
    np.testing.assert_allclose(zarr.open_array(str(tmp_path / "P.zarr"), mode="r")[...], DATA["A"] @ DATA["A"])
    td.store(td.sum(A), {"A": stored["A"]}, tmp_path / "s.zarr")
    np.testing.assert_allclose(zarr.open_array(str(tmp_path / "s.zarr"), mode="r")[()], DATA["A"].sum())


def test_sources_of_every_kind(tmp_path: Path) -> None:
    da, h5py, xarray = (pytest.importorskip(name) for name in ("dask.array", "h5py", "xarray"))
    a = DATA["A"]
    np.save(tmp_path / "a.npy", a)
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=a, chunks=(4, 5))
    old = zarr.create_array(str(tmp_path / "v2.zarr"), data=a, chunks=(3, 11), zarr_format=2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("given", data=a, chunks=(2, 11))
    file = h5py.File(tmp_path / "a.h5", "r")
    found = {
        "path of npy": str(tmp_path / "a.npy"),
        "path of zarr": tmp_path / "a.zarr",
        "path of zarr 2": tmp_path / "v2.zarr",
        "path of hdf5": f"{tmp_path / 'a.h5'}::given",
        "the only one in hdf5": str(tmp_path / "a.h5"),
        "zarr": array,
        "zarr 2": old,
        "h5py": file["given"],
        "memmap": np.load(tmp_path / "a.npy", mmap_mode="r"),
        "part of a memmap": np.load(tmp_path / "a.npy", mmap_mode="r")[::-1][::-1],
        "numpy": a,
        "list": a.tolist(),
        "dask": da.from_array(a, chunks=((4, 4, 3), (5, 6))),
        "xarray": xarray.DataArray(a),
    }
    for name, value in found.items():
        source = pickle.loads(pickle.dumps(source_of("A", value)))  # as tasks elsewhere get it
        assert source.shape == a.shape, name
        np.testing.assert_array_equal(source.read((slice(2, 7), slice(3, 4))), a[2:7, 3:4])
        backwards = source.read((slice(8, 1, -2), slice(10, None, -1)))
        np.testing.assert_array_equal(backwards, a[8:1:-2, ::-1])
    file.close()


def test_data_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(td.BindError, match="no such file"):
        source_of("A", tmp_path / "none.zarr")
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(td.BindError, match="suffix"):
        source_of("A", tmp_path / "a.txt")
    (tmp_path / "b.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(td.BindError, match=r"cannot be read as npy"):
        source_of("A", tmp_path / "b.npy")
    with pytest.raises(td.BindError, match="dtype object"):
        source_of("A", np.array([None]))
    da = pytest.importorskip("dask.array")
    unknown = da.from_array(DATA["x"], chunks=4)
    with pytest.raises(td.BindError, match="compute_chunk_sizes"):
        source_of("x", unknown[unknown > 0])
    with pytest.raises(td.BindError, match=r"no data for x"):
        td.store(FLAGSHIP, {"A": DATA["A"]}, tmp_path / "J.zarr")
    with pytest.raises(td.BindError, match="axis 1 of A"):
        td.store(FLAGSHIP, {"A": DATA["B"], "x": DATA["x"]}, tmp_path / "J.zarr")
    assert not (tmp_path / "J.zarr").exists()


# --- faults -------------------------------------------------------------------------------------------------------


def cut_off_after(monkeypatch: pytest.MonkeyPatch, tasks: int) -> None:
    """The driver stops after some tasks have ended."""
    left = [tasks]
    run = engine.run

    def short(client: Any, function: Any, job: Any, calls: Any, slots: int, done: Any, patience: float) -> None:
        def count(call: Any, result: Any) -> None:
            done(call, result)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        run(client, function, job, calls, slots, count, patience)

    monkeypatch.setattr(engine, "run", short)


@pytest.mark.parametrize("threads", [1, 2, None])
def test_a_run_is_taken_up_with_other_threads(
    threads: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the tiles that it was begun in; where there is no room for as many of them at a time, that is said."""
    size = 60
    a = RNG.normal(size=(size, size))
    zarr.create_array(str(tmp_path / "A.zarr"), data=a, chunks=(6, 6))
    data, target = {"A": str(tmp_path / "A.zarr")}, tmp_path / "J.zarr"
    with monkeypatch.context() as patch:
        cut_off_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            td.store(A @ A @ A, data, target, memory=40_000, threads=1)
    if threads == 2:
        with pytest.raises(td.PlanError, match="resume=False"):
            td.store(A @ A @ A, data, target, memory=40_000, threads=threads)
        threads = 1
    report = td.store(A @ A @ A, data, target, memory=40_000, threads=threads)
    assert report.kept > 0
    np.testing.assert_allclose(zarr.open_array(target)[...], a @ a @ a)


def test_files_are_let_go_where_nothing_runs(tmp_path: Path) -> None:
    """After a plan, one that is refused, a store that was complete, and a value, others may write to the file."""
    h5py = pytest.importorskip("h5py")
    place = tmp_path / "A.h5"
    with h5py.File(place, "w") as file:
        file["A"] = DATA["A"]
    data = {"A": f"{place}::A"}

    def refused() -> None:
        with pytest.raises(td.PlanError):
            td.store(td.linalg.inv(A), data, tmp_path / "J.zarr", memory=1000)

    for step in (
        lambda: td.plan(A @ A, data, memory="1MB"),
        refused,
        lambda: [td.store(A @ A, data, tmp_path / "P.zarr") for _ in range(2)],
        lambda: td.sum(A).evaluate(data),
    ):
        step()
        with h5py.File(place, "a"):
            pass


@pytest.mark.parametrize("layout", ["structured", "dense"])
def test_a_run_that_is_cut_off_is_taken_up(
    layout: str, stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "J.zarr"
    whole = td.store(FLAGSHIP, stored, tmp_path / "whole.zarr", layout=layout, memory=MEMORY[layout])
    with monkeypatch.context() as patch:
        cut_off_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            td.store(FLAGSHIP, stored, target, layout=layout, memory=MEMORY[layout])
    (target / "half.written.partial").write_bytes(b"")  # what zarr leaves where a writer is killed
    if layout == "structured":
        with pytest.raises(td.BindError, match="not complete"):
            td.open(target)
    report = td.store(FLAGSHIP, stored, target, layout=layout, memory=MEMORY[layout])
    assert report.kept >= 1
    assert report.tasks + report.kept == whole.tasks
    assert not list(tmp_path.glob("*.journal")) + list(tmp_path.glob("*.scratch"))
    assert content(target) == content(tmp_path / "whole.zarr")
    again = td.store(FLAGSHIP, stored, target, layout=layout, memory=MEMORY[layout])
    assert (again.tasks, again.kept) == (0, whole.tasks)


def content(store: Path) -> dict[str, bytes]:
    """The bytes of all chunks."""
    return {
        str(f.relative_to(store)): f.read_bytes() for f in store.rglob("*") if f.is_file() and f.name != "zarr.json"
    }


def test_another_run_is_refused(stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "J.zarr"
    with monkeypatch.context() as patch:
        cut_off_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            td.store(FLAGSHIP, stored, target, memory=5_000)
    with pytest.raises(td.BindError, match="expression"):
        td.store(2 * FLAGSHIP, stored, target, memory=5_000)
    with pytest.raises(td.PlanError, match="Give memory="):  # the tiles that were begun do not fit
        td.store(FLAGSHIP, stored, target, memory=1_500)
    with pytest.raises(td.BindError, match="layout"):
        td.store(FLAGSHIP, stored, target, memory=5_000, layout="dense")
    np.save(stored["x"], DATA["x"] + 1)
    with pytest.raises(td.BindError, match="inputs"):
        td.store(FLAGSHIP, stored, target, memory=5_000)
    report = td.store(FLAGSHIP, stored, target, memory=5_000, resume=False)
    assert report.kept == 0
    np.testing.assert_allclose(td.open(target).todense(), flagship(DATA["A"], DATA["x"] + 1))
    with pytest.raises(td.BindError, match="another run"):
        td.store(3 * FLAGSHIP, stored, target, memory=5_000)


def test_what_somebody_else_has_written_is_left_alone(stored: dict[str, Any], tmp_path: Path) -> None:
    target = tmp_path / "mine.zarr"
    zarr.create_array(str(target), data=np.arange(3.0))
    for resume in (True, False):
        with pytest.raises(td.BindError, match="has not written"):
            td.store(FLAGSHIP, stored, target, resume=resume)
    np.testing.assert_array_equal(zarr.open_array(str(target), mode="r")[...], np.arange(3.0))
    with pytest.raises(td.BindError, match="no directory"):
        td.store(FLAGSHIP, stored, tmp_path / "none" / "J.zarr")


def test_a_journal_that_is_torn_or_doubled(tmp_path: Path) -> None:
    path = tmp_path / "J.zarr.journal"
    with Journal(FileLog(path)) as journal:
        journal.begin({"expression": "e"})
        journal.finished([("C0", (0, 0)), ("C0", (0, 1)), ("C0", (0, 1))])
    whole = path.read_bytes()
    every = {("C0", (0, 0)), ("C0", (0, 1))}
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(FileLog(path)) as journal:
            begun, finished = journal.begun()
            assert finished <= every
            journal.mend()
            if begun is not None:
                journal.finished([("C0", (5, 5))])
                assert ("C0", (5, 5)) in journal.begun()[1]
    path.write_bytes(whole.replace(b'"C0"', b'"C1"', 1))  # a bit that has changed
    with Journal(FileLog(path)) as journal:
        assert journal.begun()[1] <= every


def test_a_journal_whose_first_line_is_torn_or_that_is_lost(
    stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, journal = tmp_path / "J.zarr", tmp_path / "J.zarr.journal"
    for lost in (False, True):
        with monkeypatch.context() as patch:
            cut_off_after(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                td.store(FLAGSHIP, stored, target, memory=5_000, resume=False)
        if lost:
            journal.unlink()
            with pytest.raises(td.BindError, match="its journal is lost"):
                td.store(FLAGSHIP, stored, target, memory=5_000)
            td.store(FLAGSHIP, stored, target, memory=5_000, resume=False)
        else:
            journal.write_bytes(journal.read_bytes().splitlines()[0][:-5])
            assert td.store(FLAGSHIP, stored, target, memory=5_000).kept == 0
        np.testing.assert_allclose(td.open(target).todense(), flagship(DATA["A"], DATA["x"]))


def test_a_second_writer_is_refused(stored: dict[str, Any], tmp_path: Path) -> None:
    with Journal(FileLog(tmp_path / "J.zarr.journal")), pytest.raises(td.BindError, match="Another run is writing"):
        td.store(FLAGSHIP, stored, tmp_path / "J.zarr")


def test_a_store_that_errs_now_and_then(
    stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third read and write fails; the value has the same bits."""
    td.store(FLAGSHIP, stored, tmp_path / "good.zarr", memory=5_000)
    count = [0]

    class Erring:
        def __init__(self, array: Any) -> None:
            self._array = array

        def __getattr__(self, name: str) -> Any:
            return getattr(self._array, name)

        def _may_fail(self) -> None:
            count[0] += 1
            if count[0] % 3 == 0:
                raise OSError("the store is not there for a moment")

        def __getitem__(self, region: Any) -> Any:
            self._may_fail()
            return self._array[region]

        def __setitem__(self, region: Any, value: Any) -> None:
            self._may_fail()
            self._array[region] = value

    monkeypatch.setattr(sources, "PAUSE", 0.0)
    for table, kind in ((sources.OPENERS, "zarr"), (sources.WRITERS, "zarr")):
        opened = table[kind]
        monkeypatch.setitem(table, kind, lambda *place, opened=opened: Erring(opened(*place)))  # type: ignore[arg-type]
    td.store(FLAGSHIP, stored, tmp_path / "J.zarr", memory=5_000)
    assert count[0] > 15
    assert content(tmp_path / "J.zarr") == content(tmp_path / "good.zarr")


def test_a_missing_and_a_truncated_chunk(
    stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PAUSE", 0.0)
    chunk = next(f for f in Path(stored["A"]).rglob("*") if f.is_file() and f.name != "zarr.json")
    kept = chunk.read_bytes()
    chunk.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(td.BindError, match=r"The piece \[.*\] of A cannot be read from .*A.zarr"):
        td.store(FLAGSHIP, stored, tmp_path / "J.zarr", memory=5_000)
    chunk.write_bytes(kept)
    os.utime(chunk)
    with pytest.raises(td.BindError, match="inputs"):  # the input was changed
        td.store(FLAGSHIP, stored, tmp_path / "J.zarr", memory=5_000)
    td.store(FLAGSHIP, stored, tmp_path / "J.zarr", memory=5_000, resume=False)


PROGRAM = """
import sys, numpy as np, tensordsl as td
k = td.dim("k")
A, x = td.matrix("A", k, k), td.vector("x", k)
if __name__ == "__main__":
    td.store(td.jacobian(A * td.outer(x, x), x), {"A": sys.argv[1], "x": sys.argv[2]}, sys.argv[3], memory=400_000,
             layout=sys.argv[4])
"""


class Threads:
    """What the engine asks a client of `distributed`."""

    def __init__(self, **threads: int) -> None:
        self.threads = threads

    def nthreads(self) -> dict[str, int]:
        return self.threads


def test_workers_are_given_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tasks for each thread as the others, also where some end sooner, come later, or are lost."""
    monkeypatch.setattr(engine, "ASK", 0.0)
    client = Threads(a=1, b=3)
    workers = engine.Workers(client)
    assert Counter(workers.take() for _ in range(12)) == {"a": 3, "b": 9}
    for _ in range(3):
        workers.give("b")
    assert [workers.take() for _ in range(3)] == ["b"] * 3
    client.threads = {"a": 1, "c": 1}
    assert Counter(workers.take() for _ in range(5)) == {"c": 4, "a": 1}
    client.threads = {}
    assert workers.take() is None  # whoever comes takes it
    workers.give(None)


@pytest.mark.slow
def test_two_workers_do_half_each() -> None:
    """Of four long tasks each of two workers does two: the scheduler alone gives three to one of them."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        done: list[str] = []
        engine.run(client, slow_task, None, iter([()] * 4), 2, lambda call, address: done.append(address), 60.0)
    assert sorted(Counter(done).values()) == [2, 2]


@pytest.mark.slow
def test_tasks_wait_for_a_worker_that_comes_later() -> None:
    """Where there is none for the moment, as after one was lost, tasks are handed out, and done by whoever comes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        done: list[str] = []
        timer = Timer(0.5, cluster.scale, [1])
        timer.start()
        engine.run(client, slow_task, None, iter([()] * 2), 1, lambda call, address: done.append(address), 60.0)
    assert len(done) == 2


def slow_task(job: Any) -> str:
    from distributed import get_worker

    time.sleep(0.3)
    return str(get_worker().address)


ARENAS = """
import ctypes, sys, tensordsl as td
k = td.dim("k")
A = td.matrix("A", k, k)
td.store(A @ A, {"A": sys.argv[1]}, sys.argv[2], memory="1MB")
ctypes.CDLL(None).malloc_stats()  # of each arena, on standard error
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="another allocator than glibc's")
def test_threads_share_what_memory_is_freed(tmp_path: Path) -> None:
    """zarr reads with many threads, and glibc would give most of them an arena of their own."""
    zarr.create_array(str(tmp_path / "A.zarr"), data=RNG.normal(size=(300, 300)), chunks=(20, 20))
    command = [sys.executable, "-c", ARENAS, str(tmp_path / "A.zarr"), str(tmp_path / "P.zarr")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 1 <= done.stderr.count("Arena ") <= 2


MEASURED = """
STACKS = 16 << 23  # 8 MiB for each thread that the engine and the store begin; of which they touch little
import resource, sys, numpy as np, tensordsl as td
def peak():  # of this process alone: getrusage begins with what its parent had
    return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
k = td.dim("k")
A, B, x = td.matrix("A", k, k), td.matrix("B", k, k), td.vector("x", k)
folder, name, memory = sys.argv[1:]
e = {"product": A @ B, "flagship": td.jacobian(A * td.outer(x, x), x), "functions": td.exp(A @ B) * x}[name]
data = {s.name: f"{folder}/{s.name}.zarr" for s in e.symbols}
small = {s.name: np.ones([5] * s.ndim) for s in e.symbols}
td.store(e, small, f"{folder}/small.zarr", memory="1MB", resume=False)  # whatever is imported is
status = open("/proc/self/status").read()
held = 1024 * int(status.split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, (held + int(memory) + STACKS,) * 2)  # more cannot be had, whatever for
before = peak()
report = td.store(e, data, f"{folder}/{name}.zarr", memory=int(memory), resume=False)
print(peak() - before, report.plan.tasks)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["product", "flagship", "functions"])
def test_the_memory_of_the_process_keeps_within_the_budget(name: str, tmp_path: Path) -> None:
    """In a process of its own, which can have no more: beyond its imports it takes less, for data of 128 MB."""
    for symbol, shape in (("A", (4000, 4000)), ("B", (4000, 4000)), ("x", (4000,))):
        values = np.random.default_rng(1).normal(size=shape)
        zarr.create_array(str(tmp_path / f"{symbol}.zarr"), data=values, chunks=(250,) * len(shape), compressors=None)
    (tmp_path / "measured.py").write_text(MEASURED)
    budget = 80_000_000
    command = [sys.executable, str(tmp_path / "measured.py"), str(tmp_path), name, str(budget)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    taken, tasks = map(int, done.stdout.split())
    assert tasks > 4
    assert taken < budget


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["structured", "dense"])
def test_a_driver_that_is_killed(layout: str, tmp_path: Path) -> None:
    """SIGKILL at any moment: what was finished is kept, and the result has the same bits."""
    size = 150
    a, v = RNG.normal(size=(size, size)), RNG.normal(size=size)
    zarr.create_array(str(tmp_path / "A.zarr"), data=a, chunks=(20, 20))
    np.save(tmp_path / "x.npy", v)
    (tmp_path / "program.py").write_text(PROGRAM)

    def command(target: str) -> list[str]:
        return [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "A.zarr"), str(tmp_path / "x.npy"),
                str(tmp_path / target), layout]  # fmt: skip

    subprocess.run(command("whole.zarr"), check=True)
    kills = 0
    for wait in (0.05, 0.15, 0.3, 0.5, 0.8):
        process = subprocess.Popen(command("J.zarr"))
        begun = time.monotonic()
        while not (tmp_path / "J.zarr").exists() and process.poll() is None and time.monotonic() - begun < 60:
            time.sleep(0.01)
        time.sleep(wait)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run(command("J.zarr"), check=True)
    assert kills
    assert content(tmp_path / "J.zarr") == content(tmp_path / "whole.zarr")


@pytest.mark.slow
def test_workers_that_are_killed(tmp_path: Path) -> None:
    """On a cluster of processes one worker after the other is lost: only what it was doing is done again."""
    distributed = pytest.importorskip("distributed")
    size = 200
    a, v = RNG.normal(size=(size, size)), RNG.normal(size=size)
    zarr.create_array(str(tmp_path / "A.zarr"), data=a, chunks=(20, 20))
    np.save(tmp_path / "x.npy", v)
    data = {"A": tmp_path / "A.zarr", "x": tmp_path / "x.npy"}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        whole = td.store(FLAGSHIP, data, tmp_path / "whole.zarr", layout="dense", memory=400_000, client=client)
        assert whole.tasks > 100
        ended, kills = [0], []
        run = engine.run

        def killing(client: Any, function: Any, job: Any, calls: Any, slots: int, done: Any, patience: float) -> None:
            def count(call: Any, result: Any) -> None:
                done(call, result)
                ended[0] += len(result)
                if len(kills) < 3 and ended[0] >= whole.tasks * (0.1, 0.5, 0.9)[len(kills)]:
                    kills.append(next(iter(client.run(os.getpid).values())))
                    os.kill(kills[-1], signal.SIGKILL)

            run(client, function, job, calls, slots, count, patience)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "run", killing)
            report = td.store(FLAGSHIP, data, tmp_path / "J.zarr", layout="dense", memory=400_000, client=client)
    assert len(kills) == 3
    assert report.tasks == whole.tasks
    assert content(tmp_path / "J.zarr") == content(tmp_path / "whole.zarr")


@pytest.mark.slow
def test_a_run_goes_on_with_other_workers(stored: dict[str, Any], tmp_path: Path) -> None:
    """Begun by threads, taken up by processes, which are fewer: the tiles are those that were begun."""
    distributed = pytest.importorskip("distributed")
    e = td.hessian(td.sum(td.log(1 + td.exp(A @ x))), x)  # with a stage that is in memory, and then is not
    td.store(e, stored, tmp_path / "whole.zarr", memory=6_000)
    with pytest.MonkeyPatch.context() as patch:
        cut_off_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            td.store(e, stored, tmp_path / "J.zarr", memory=6_000)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        td.store(e, stored, tmp_path / "J.zarr", memory=6_000, client=client)
    assert content(tmp_path / "J.zarr") == content(tmp_path / "whole.zarr")


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer(
    stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CONNECT", 1.0)
    with pytest.raises(td.BindError, match="No scheduler answers"):
        td.store(FLAGSHIP, stored, tmp_path / "J.zarr", client="tcp://127.0.0.1:9")


def test_a_worker_that_is_stuck(stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "STUCK", 0.2)
    monkeypatch.setattr(sources.Source, "read", lambda *_: time.sleep(1.5))
    with pytest.raises(td.BindError, match="No task has ended"):
        td.store(FLAGSHIP, stored, tmp_path / "J.zarr")


def test_the_report_and_the_attributes_say_what_is_there(stored: dict[str, Any], tmp_path: Path) -> None:
    report = td.store(FLAGSHIP, stored, tmp_path / "J.zarr")
    assert "tasks" in str(report)
    assert str(tmp_path / "J.zarr") in str(report)
    said = json.loads((tmp_path / "J.zarr" / "zarr.json").read_text())["attributes"]["tensordsl"]
    assert said["version"] == 1
    assert said["complete"] is True
    assert said["expression"] == str(FLAGSHIP)
    with pytest.raises(td.BindError, match="no store"):
        td.open(tmp_path / "none.zarr")
    td.store(td.exp(A), {"A": stored["A"]}, tmp_path / "E.zarr")
    with pytest.raises(td.BindError, match="no structured store"):
        td.open(tmp_path / "E.zarr")


@pytest.mark.parametrize("workers", [2, 64, 256])
def test_tiles_are_shorter_than_chunks_where_workers_would_wait(workers: int) -> None:
    """A product of matrices in 25 chunks each: with more workers than that, nearly each of them has a task."""
    found, sizes = declared_sources([A @ A], {"k": 100_000}, 20_000)
    plan = plan_chunked(A @ A, found, sizes, Budget(2**38, workers, 1))
    assert plan.tasks > 0.7 * workers
    waves = -(-plan.tasks // workers)
    assert plan.tasks / (waves * workers) > 0.7  # and few wait for the last ones
    assert plan.seconds < 1.4 * plan.flops / FLOPS / workers
    assert plan.peak_bytes < 2**38


def test_tiles_are_no_shorter_where_that_gains_nothing() -> None:
    found, sizes = declared_sources([A * 2], {"k": 20_000}, 5_000)
    plan = plan_chunked(A * 2, found, sizes, Budget(2**33, 2, 2))
    assert all(length >= 5_000 for length in plan.tiling.lengths.values())


@pytest.mark.parametrize("whole", [False, True])
def test_a_dtype_that_was_not_foreseen(whole: bool, tmp_path: Path) -> None:
    """A function that no small array is in the domain of: what it gives is kept where floats hold it, or refused."""
    big = 2**53 + 1 if whole else 2**53

    def count(array: np.ndarray) -> np.ndarray:
        if len(array) < 3:
            raise td.BindError("too short")
        return np.full(len(array), big, np.int64) - array.astype(np.int64) * 0

    rule = {"shape": lambda v: v, "jacobian": lambda value, place: td.zeros(k, k)}
    counted = td.primitive(**rule, name=f"counted{whole}")(count)  # type: ignore[arg-type]
    data = {"x": np.arange(6), "k": 6}
    if whole:
        with pytest.raises(td.BindError, match="A function gives int64 for these data, and float64 was planned"):
            td.store(counted(x), data, tmp_path / "c.zarr")
    else:
        td.store(counted(x), data, tmp_path / "c.zarr")
        assert (zarr.open_array(tmp_path / "c.zarr", mode="r")[...] == big).all()


def test_numbers_have_the_dtypes_of_numpy(tmp_path: Path) -> None:
    """Of structure, of whole numbers, and of both with coefficients; read back from either layout."""
    whole = np.arange(36).reshape(6, 6)
    for place, (e, wanted) in enumerate(
        (
            (A + td.identity(k), "int64"),
            (td.jacobian(A * td.outer(x, x), x), "int64"),
            (A / 2 + td.identity(k), "float64"),
            (2 * td.diag(x), "int64"),
            (td.identity(k) * 3, "float64"),
        )
    ):
        data = {s.name: whole if s.ndim == 2 else whole[0] for s in e.symbols} | {"k": 6}
        assert np.asarray(e.evaluate(data)).dtype == wanted
        for layout in ("structured", "dense"):
            target = tmp_path / f"{place}{layout}.zarr"
            assert td.store(e, data, target, layout=layout).plan.dtype == wanted
            found = zarr.open_array(target, mode="r")[...] if layout == "dense" else td.open(target).todense()
            assert found.dtype == wanted
            np.testing.assert_array_equal(found, e.evaluate(data))


# --- stores of any kind -------------------------------------------------------------------------------------------


def stored_somehow(data: st.DataObject, name: str, array: np.ndarray, folder: Path) -> Any:
    """An array as data of some kind, in some chunks: several of a test in kinds and chunks of their own."""
    chunks = tuple(data.draw(st.integers(1, max(1, size)), label=f"chunk of {name}") for size in array.shape)
    kinds = ["memory", "npy", "memmap"] + (["zarr", "zarr 2", "hdf5", "open zarr", "dask"] if array.ndim else [])
    if 0 in array.shape:
        kinds = ["memory", "npy"]
    kind = data.draw(st.sampled_from(kinds), label=f"kind of {name}")
    if kind == "memory":
        return array if data.draw(st.booleans()) or not array.ndim else np.asfortranarray(array)
    place = folder / name
    if kind in ("npy", "memmap"):
        np.save(place.with_suffix(".npy"), array)
        return place.with_suffix(".npy") if kind == "npy" else np.load(place.with_suffix(".npy"), mmap_mode="r")
    if kind == "hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(place.with_suffix(".h5"), "w") as file:
            file.create_dataset("values", data=array, chunks=chunks)
        return f"{place.with_suffix('.h5')}::values"
    if kind == "dask":
        da = pytest.importorskip("dask.array")
        ragged = tuple(tuple(np.diff(sorted({0, size, *(data.draw(st.lists(st.integers(0, size), max_size=3)))})))
                       for size in array.shape)  # fmt: skip
        return da.from_array(array, chunks=tuple(tuple(map(int, each)) for each in ragged))
    version = 2 if kind == "zarr 2" else 3
    made = zarr.create_array(str(place.with_suffix(".zarr")), data=array, chunks=chunks, zarr_format=version)
    return made if kind == "open zarr" else str(place.with_suffix(".zarr"))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.data())
def test_any_stores_give_the_same_value(case: Case, data: st.DataObject) -> None:
    """Random expressions and Jacobians of random stores, written in either layout within little memory."""
    e = data.draw(st.sampled_from(with_jacobians(case)))
    values = {symbol.name: case.data[symbol.name] for symbol in e.symbols}
    with np.errstate(all="ignore"):
        wanted = e.evaluate(values | DIMS)
    assume(np.all(np.isfinite(wanted)))
    layout = data.draw(st.sampled_from([None, "structured", "dense"]))
    memory = data.draw(st.sampled_from([3_000, 30_000, 10**8]))
    with tempfile.TemporaryDirectory() as made, np.errstate(all="ignore"):
        folder = Path(made)
        given = {name: stored_somehow(data, name, value, folder) for name, value in values.items()} | DIMS
        try:
            report = td.store(e, given, folder / "J.zarr", memory=memory, layout=layout)
        except td.PlanError as error:  # the least that it names is enough
            least = int(str(error).partition("Give memory=")[2].split()[0])
            report = td.store(e, given, folder / "J.zarr", memory=least, layout=layout)
        if report.plan.layout == "dense":
            found = zarr.open_array(folder / "J.zarr", mode="r")[...]
        else:
            found = td.open(folder / "J.zarr").todense()
    assert np.shape(found) == np.shape(wanted)
    assert report.plan.dtype == np.asarray(wanted).dtype
    assert close(found, wanted, 1e-9)


# --- small values of large data -------------------------------------------------------------------------------------


def test_stored_data_are_evaluated_tile_by_tile(stored: dict[str, Any]) -> None:
    """Paths and open stores are data like others; the value is an array, or keeps its structure."""
    a, v = DATA["A"], DATA["x"]
    np.testing.assert_allclose((A @ x).evaluate(stored, memory="1MB"), a @ v)
    f = td.compile((td.sum(A * A), A.T @ x), memory="1MB")
    value, product = f(A=zarr.open_array(str(stored["A"]), mode="r"), x=v)
    np.testing.assert_allclose(value, (a * a).sum())
    np.testing.assert_allclose(product, a.T @ v)
    coo = td.compile(FLAGSHIP, output="sparse")(stored)
    assert coo.nnz == 2 * 11**2
    factored = td.compile(FLAGSHIP, output="factored")(stored)
    np.testing.assert_allclose(factored.todense(), flagship(a, v))
    with pytest.raises(td.PlanError, match=r"td\.store"):
        (A @ A).evaluate(stored, memory=1500)
    with pytest.raises(td.PlanError, match="output='factored'"):
        FLAGSHIP.evaluate(stored, memory=20_000)
    with pytest.raises(td.UnsupportedError, match="operator"):
        td.compile(A, output="operator")(stored)


def test_a_core_in_several_places_is_read_in_other_lengths_in_each(tmp_path: Path) -> None:
    """Of a Kronecker product dense only one slice of each axis has to fit, of an array that stands in it twice too."""
    a = RNG.normal(size=(30, 20))
    e = td.kron(td.matrix("A", k, m), td.matrix("A", k, m))
    report = td.store(e, {"A": a}, tmp_path / "K.zarr", layout="dense", memory="1MB")
    assert report.tasks > 10
    np.testing.assert_allclose(zarr.open_array(tmp_path / "K.zarr", mode="r")[...], np.kron(a, a))


SQUARES = {name: td.matrix(name, k, k) for name in "PQ"}


@pytest.mark.parametrize("layout", ["structured", "dense"])
@pytest.mark.parametrize(
    "e",
    [
        td.kron(SQUARES["P"] @ SQUARES["P"], SQUARES["Q"] @ SQUARES["Q"]),
        td.jacobian(SQUARES["P"] @ td.diag(x) @ SQUARES["Q"], x),
        td.jacobian(td.outer(SQUARES["P"] @ x, SQUARES["Q"] @ x), x),
        SQUARES["P"] @ SQUARES["P"] @ SQUARES["P"],
    ],
)
def test_chunks_of_what_is_made_are_no_dust(e: td.Expr, layout: str) -> None:
    """Of data without chunks, of lengths that have nothing in common: 64 KiB, or a tile."""
    for size, memory in ((300, 2 * 10**6), (500, 3 * 10**6), (701, 8 * 10**6)):
        found, sizes = declared_sources([e], {"k": size}, None)
        room = memory * (5 if layout == "dense" else 1)
        plan = plan_chunked(e, found, sizes, Budget(room, 1, 1), Asked(layout))
        for stage in plan.stages:
            tile = np.prod([plan.tiling.entries(group) for group in stage.every_axis])
            assert np.prod(plan.chunks_of(stage)) >= min(tile, 2**13) / 4


def test_products_in_the_blocks_of_a_dense_result_are_counted() -> None:
    """2n for each entry: what is multiplied along is short, and summed over in each block."""
    e = td.einsum("aij,akl->ijkl", td.tensor("X", n, k, m), td.tensor("Y", n, k, m))
    plan = td.plan(e, k=40, m=30, n=8, chunks=10, memory="10MB", layout="dense")
    assert plan.tasks > 4
    assert plan.flops == 2 * 8 * (40 * 30) ** 2


def test_a_plan_says_where_cores_stand() -> None:
    """By one letter for each label, those of a result first."""
    plan = td.plan(td.kron(A, A), k=40, chunks=10, memory="10MB", layout="dense")
    assert "C0[i,k]*C0[j,l] -> [ij,kl]" in str(plan)
    flipped = td.plan(td.jacobian(A.T * td.outer(x, x), x), k=40, chunks=10, memory="10MB", layout="dense")
    assert {"A[i,j]*x[i] -> [j,i,j]", "A[i,j]*x[j] -> [j,i,i]"} <= set(re.findall(r"A\S* -> \[[ijk,]*\]", str(flipped)))
    many = td.tensor("T", *[2] * 24)
    assert re.search(r"exp\(T\[i,j,.* -> \[i,j,.*,h,i1,j1\]", str(td.plan(td.exp(many), chunks=1)))


def test_a_plan_is_shown_before_anything_runs(stored: dict[str, Any], tmp_path: Path) -> None:
    plan = td.plan(FLAGSHIP, stored, memory="1MB", layout="dense", chunks=4)
    lines = str(plan).splitlines()
    assert lines[0] == "dense result of 11 x 11 x 11, float64, within 1 MB; of 27 blocks 12 are zero, and not written"
    assert lines[1].split() == ["array", "made", "of", "tiles", "of", "read", "written", "peak", "of", "a", "task"]
    assert any("4 x 4 x 4" in line for line in lines)
    assert plan.tasks == 15
    assert plan.chunks == (4, 4, 4)
    assert plan.steps
    assert plan.flops == 0
    assert "15 tasks" in repr(plan)
    assert "<pre>" in plan._repr_html_()
    plan.save(tmp_path / "plan.svg")
    drawn = (tmp_path / "plan.svg").read_text()
    assert drawn.count("<rect") == 9
    assert drawn.startswith("<svg")
    with pytest.raises(td.UnsupportedError, match=r"\.svg"):
        plan.save(tmp_path / "plan.png")
    declared = td.plan(A @ B, k=10_000, m=3_000, chunks={"A": 500, "B": (500, 300)}, memory="500MB")
    assert declared.at_once * declared.peak_bytes <= 0.6 * 500e6
    found, known = declared_sources([A @ B], {"k": 10_000, "m": 3_000}, {"A": 500, "B": (500, 300)})
    assert 2 * plan_chunked(A @ B, found, known, Budget(500 * 10**6, 2, 2)).peak_bytes <= 0.6 * 500e6
    assert declared.bytes_read >= declared.bound_bytes - declared.bytes_written
    with pytest.raises(td.PlanError, match="one length for each"):
        td.plan(FLAGSHIP, stored, chunks=(1, 2))
    z = td.vector("z", td.dim("chunks"))
    assert td.plan(z @ z, chunks=100).flops == td.plan(x @ x, k=100).flops  # a size may be called so
    with pytest.raises(td.BindError, match="No size is given for m"):
        td.plan(A @ B, k=10, chunks=5)


def test_progress_is_told(
    stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One step for each tile, those of sums that several tasks share as well; a bar where there is a terminal."""
    for e in (FLAGSHIP, td.sum(A * A)):
        told: list[tuple[int, int]] = []
        target = tmp_path / f"{e.ndim}.zarr"
        data = {symbol.name: stored[symbol.name] for symbol in e.symbols}
        report = td.store(e, data, target, memory=5_000, progress=lambda done, of: told.append((done, of)))  # noqa: B023
        assert told == [(done + 1, report.plan.tasks) for done in range(report.tasks)]
        assert report.tasks == report.plan.tasks
    td.store(FLAGSHIP, stored, tmp_path / "quiet.zarr", memory=5_000, progress=True)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    report = td.store(FLAGSHIP, stored, tmp_path / "shown.zarr", memory=5_000, progress=True)
    assert f"{report.tasks}/{report.tasks}" in capsys.readouterr().out
