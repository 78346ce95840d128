"""Dask arrays in, lazy dask arrays out, equal to NumPy's whatever the chunks are."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import DIMS, Case, cases, close

import tensordsl as td

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

k, m = td.dims("k m")
A, B, x, y = td.matrix("A", k, k), td.matrix("B", k, m), td.vector("x", k), td.vector("y", m)
RNG = np.random.default_rng(3)
DATA = {
    "A": RNG.normal(size=(9, 9)),
    "B": RNG.normal(size=(9, 5)),
    "x": RNG.normal(size=9),
    "y": RNG.normal(size=5),
    "u": RNG.normal(size=12),
}
FORMULAS = {
    "product": A @ B,
    "chain": A @ A @ B,
    "functions of a product": td.exp(A @ A) * x,
    "sum": td.sum(A * A),
    "weights": B.T @ td.diag(td.sigmoid(B @ y)) @ B,
    "inverse": td.linalg.inv(B.T @ B + td.identity(m)) @ y,
    "flagship": td.jacobian(A * td.outer(x, x), x),
    "jacobian matrix": td.jacobian_matrix(A * td.outer(x, x), x),
    "vec": td.vec(A) * 2,
    "kron": td.kron(x, y),
    "logsumexp": td.logsumexp(B @ y),
    "one column": A[:, 2] * x,
    "from an end": A[1:] @ x,
    "broadcast": A + x[:, None],
    "scattered": td.jacobian(A[2] * x, A),
    "a group": td.unvec(td.vector("u", 12), (3, 4)) * 2,
    "a diagonal": td.diagonal(td.exp(A @ A)) * x,
}


def lazy(data: dict[str, np.ndarray], chunks: Any) -> dict[str, Any]:
    return {name: da.from_array(array, chunks=chunks if array.ndim else ()) for name, array in data.items()}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.slow
def test_with_query_planning() -> None:
    """The other way in which dask may hold its graphs, which a process has to choose before it begins."""
    environment = {**os.environ, "DASK_ARRAY__QUERY_PLANNING": "True"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        __file__,
        "-k",
        "test_formulas and 4 and not group",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("chunks", [2, 4, 100, ((4, 3, 2), (5, 4))], ids=str)
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name: str, chunks: Any) -> None:
    e = FORMULAS[name]
    data = {symbol.name: DATA[symbol.name] for symbol in e.symbols}
    if isinstance(chunks, tuple):  # ragged, and misaligned between the arrays
        given_data = {n: da.from_array(a, chunks=chunks if a.shape == (9, 9) else 4) for n, a in data.items()}
    else:
        given_data = lazy(data, chunks)
    found = td.compile(e)(given_data)
    assert isinstance(found, da.Array)
    wanted = e.evaluate(data)
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found.compute(), wanted, rtol=1e-10, atol=1e-10)


@settings(max_examples=40)
@given(case=cases(), chunk=st.integers(1, 4))
def test_any_chunks_give_the_same_value(case: Case, chunk: int) -> None:
    e = case.expression()
    data = {symbol.name: case.data[symbol.name] for symbol in e.symbols}
    assume(data)
    with np.errstate(all="ignore"):
        wanted = e.evaluate({**data, **DIMS})
        assume(np.all(np.isfinite(wanted)))
        found = td.compile(e)({**lazy(data, chunk), **DIMS})
        assert close(found.compute(), wanted, 1e-9)


@pytest.mark.parametrize("chunks", [2, 4, ((4, 3, 2), (5, 4))], ids=str)
@pytest.mark.parametrize("name", FORMULAS)
def test_entries_come_block_by_block(name: str, chunks: Any) -> None:
    e = FORMULAS[name]
    data = {symbol.name: DATA[symbol.name] for symbol in e.symbols}
    each = 3 if isinstance(chunks, tuple) else chunks
    given_data = {
        n: da.from_array(a, chunks=chunks if isinstance(chunks, tuple) and a.shape == (9, 9) else each)
        for n, a in data.items()
    }
    if not e.ndim:
        with pytest.raises(td.ShapeError, match="scalar"):
            td.compile(e, output="sparse")(given_data)
        return
    wanted = e.evaluate(data)
    found = td.compile(e, output="sparse")(given_data)
    total, entries = np.zeros(wanted.shape), 0
    for block in found:
        assert block.shape == found.shape == wanted.shape
        assert block.dtype == found.dtype == wanted.dtype
        np.add.at(total, block.coords, block.data)
        entries += len(block.data)
    assert entries == found.nnz
    np.testing.assert_allclose(total, wanted, rtol=1e-10, atol=1e-10)
    assert len(found.tocoo().data) == entries
    assert sum(len(block.data) for block in found) == entries  # it can be gone through again


@settings(max_examples=25)
@given(case=cases(), chunk=st.integers(1, 4))
def test_entries_of_any_derivative(case: Case, chunk: int) -> None:
    e = case.expression()
    small = [s for s in case.variables.values() if e.ndim <= 2 and 0 < e.ndim + s.ndim <= 4]
    assume(small)
    e = td.jacobian(e, small[0])
    data = {symbol.name: case.data[symbol.name] for symbol in e.symbols}
    assume(data)
    with np.errstate(all="ignore"):
        wanted = np.asarray(e.evaluate({**data, **DIMS}))
        assume(np.all(np.isfinite(wanted)))
        found = td.compile(e, output="sparse")({**lazy(data, chunk), **DIMS})
        total = np.zeros(wanted.shape, wanted.dtype)
        for block in found:
            np.add.at(total, block.coords, block.data)
    assert close(total, wanted, 1e-9)


def test_entries_are_as_many_as_structure_leaves() -> None:
    found = td.compile(FORMULAS["flagship"], output="sparse")(lazy({"A": DATA["A"], "x": DATA["x"]}, 3))
    assert found.nnz == 2 * 81
    assert "162 entries" in repr(found)
    assert max(len(block.data) for block in found) <= 9  # one tile at a time
    for block in found:
        i, j, p = block.coords
        assert (i == p).all() or (j == p).all()


def test_blocks_of_zeros_take_no_memory() -> None:
    found = td.compile(FORMULAS["flagship"])(lazy({"A": DATA["A"], "x": DATA["x"]}, 3))
    strides = found.map_blocks(lambda block: np.full((1, 1, 1), sum(block.strides)), chunks=(1, 1, 1)).compute()
    assert not found.blocks[0, 1, 2].compute().any()
    assert found.blocks[0, 1, 1].compute().any()
    for place in np.ndindex(3, 3, 3):
        assert (strides[place] == 0) == (len(set(place)) == 3 or place[0] == place[1] != place[2])


def test_a_number_is_one_of_numpy_once_it_is_computed() -> None:
    found = td.compile(td.sum(A * A))(lazy({"A": DATA["A"]}, 4))
    assert isinstance(found, da.Array)
    assert isinstance(found.compute(), np.floating)


def test_it_composes_with_code_of_dask() -> None:
    found = td.compile(A @ B)(A=da.from_array(DATA["A"], chunks=4), B=DATA["B"])
    again = td.compile(td.exp(x) * 2)(x=(found * 2).sum(axis=1))
    np.testing.assert_allclose(again.compute(), 2 * np.exp((2 * DATA["A"] @ DATA["B"]).sum(axis=1)))


def test_a_task_holds_no_more_than_its_pieces() -> None:
    """A chain of sums keeps within the memory, however many pieces there are along what is summed over."""
    peaks = []
    for tiles in (4, 32):
        data = {"A": da.ones((200, 200 * tiles), chunks=200), "B": da.ones((200 * tiles, 200), chunks=200)}
        rows, long = td.dims("rows long")
        found = td.compile(td.matrix("A", rows, long) @ td.matrix("B", long, rows), memory="8MB")(data)
        found.compute()
        tracemalloc.start()
        value = found.compute()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        np.testing.assert_allclose(value, np.full((200, 200), 200.0 * tiles))
    assert max(peaks) < 8e6 < 2 * 8 * 200 * 200 * 32  # within the memory, where all blocks at once are not


def test_several_results_and_what_is_refused() -> None:
    value, gradient = td.compile((td.sum(A * A), td.grad(td.sum(A * A), A)))(A=da.from_array(DATA["A"], chunks=4))
    np.testing.assert_allclose(value.compute(), (DATA["A"] ** 2).sum())
    np.testing.assert_allclose(gradient.compute(), 2 * DATA["A"])
    with pytest.raises(td.UnsupportedError, match="dask arrays"):
        td.compile(A @ B, output="factored")(lazy({n: DATA[n] for n in "AB"}, 4))
    unknown = da.from_array(DATA["x"], chunks=4)
    with pytest.raises(td.BindError, match="compute_chunk_sizes"):
        td.compile(x * 2)(x=unknown[unknown > 0])
    many = da.ones((600, 600), chunks=1)
    with pytest.raises(td.UnsupportedError, match="Rechunk"):
        td.compile(A @ A, memory="300B")(A=many)
