"""The arrays that a function keeps between its calls: of no result, of one call at a time, made once."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from small import WAYS, small
from strategies import DIMS, Case, cases

import tensordsl as td
from tensordsl.execution import compiled
from tensordsl.program import source

k = td.dim("k")
x, y = td.vector("x", k), td.vector("y", k)
A, B = td.matrix("A", k, k), td.matrix("B", k, k)
N = 95  # whose matrices are large enough to be kept

# Several results with steps between them that are kept in the workspace, in blocks and not.
RESULTS = (
    td.tanh(A @ B) @ (A + B) + td.outer(x, y),
    td.grad(td.sum(td.tanh(A @ td.tanh(B @ x))), B),
    td.sum(td.exp(A) * B, axis=0),
    td.jacobian(td.exp(A @ x), x),
    (A @ B).T,
    A @ B,
    td.diag(td.exp(x)) + A,
    td.linalg.solve(A + 30 * td.identity(k), td.exp(B)),
)


def data_of(seed: int, n: int = N) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=s) / 3 for name, s in {"A": (n, n), "B": (n, n), "x": n, "y": n}.items()}


def test_the_programs_do_keep_arrays() -> None:
    """What these tests are about is there: programs with a workspace, of several shapes."""
    slots = [slot for e in RESULTS for slot in td.plan(e, k=N).program.slots]
    assert len(slots) >= 4


@pytest.mark.parametrize("way", [None, "two threads", "products too"])
def test_called_from_several_threads_at_once(way: str | None) -> None:
    sets = [data_of(seed) for seed in range(4)]
    kept = [{name: value.copy() for name, value in data.items()} for data in sets]
    f = td.compile(RESULTS)
    wanted = [f(data) for data in sets]
    if way is not None:
        with small(WAYS[way]):
            f = td.compile(RESULTS)
            f(sets[0])  # planned within these limits
    start = threading.Barrier(3)

    def calls(thread: int) -> list[tuple[int, Any]]:
        start.wait(20)
        return [(place, f(sets[place])) for turn in range(5) for place in [(thread + turn) % len(sets)]]

    with ThreadPoolExecutor(3) as pool:
        found = [pair for pairs in pool.map(calls, range(3)) for pair in pairs]
    for place, values in found:
        for one, other in zip(values, wanted[place], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)
    for data, before in zip(sets, kept, strict=True):
        assert all(np.array_equal(data[name], before[name]) for name in data)
    arrays = [value for _, values in found[:8] for value in values]
    assert not any(np.shares_memory(p, q) for p, q in itertools.combinations(arrays, 2))


def test_planned_by_several_threads_at_once() -> None:
    f = td.compile(RESULTS[:3])
    sets = [data_of(n, n) for n in (3, 5, 8, 13)]
    start = threading.Barrier(4)

    def call(data: dict[str, np.ndarray]) -> list[Any]:
        start.wait(20)
        return [f(data) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, sets))
    for values, data in zip(found, sets, strict=True):
        truth = np.tanh(data["A"] @ data["B"]) @ (data["A"] + data["B"]) + np.outer(data["x"], data["y"])
        for value in values:
            np.testing.assert_allclose(value[0], truth, rtol=1e-10)


@pytest.mark.parametrize("way", [None, *WAYS])
def test_results_are_of_no_workspace(way: str | None) -> None:
    """What a call has returned stays as it is through the calls that follow, and shares memory with nothing."""
    f, sets = td.compile(RESULTS), [data_of(1, 20), data_of(2, 20), data_of(1, 20)]
    if way is not None:
        with small(WAYS[way]):
            found = [f(data) for data in sets]
    else:
        found = [f(data) for data in sets]
    copies = [[value.copy() for value in values] for values in found]
    for values in found:
        for value in values:
            value[...] = np.nan
    again = f(sets[0])
    for one, first, third in zip(again, copies[0], copies[2], strict=True):
        np.testing.assert_array_equal(one, first)
        np.testing.assert_array_equal(one, third)
    arrays = [*(value for values in (*found, again) for value in values), *(v for d in sets for v in d.values())]
    assert not any(np.shares_memory(p, q) for p, q in itertools.combinations(arrays, 2))


@settings(max_examples=50)
@given(cases(3), cases(3))
def test_random_results_are_of_no_workspace(first: Case, second: Case) -> None:
    """However small the arrays, all of them kept: results written over do not change later ones."""
    for case in (first, second):
        e, data = case.expression(), case.data
        with small(WAYS["whole"]), np.errstate(all="ignore"):
            f = td.compile((e, e.T, td.exp(e)))
            found = [np.asarray(value) for value in f(data, **DIMS)]
            wanted = [value.copy() for value in found]
            for value in found:
                if value.flags.writeable:
                    value[...] = 0
            for again, truth in zip(f(data, **DIMS), wanted, strict=True):
                np.testing.assert_array_equal(again, truth)


def test_a_second_call_makes_its_results_alone() -> None:
    e = td.sum(td.tanh(td.exp(A @ B) - A) @ B, axis=0)
    f, data = td.compile(e), data_of(4, 400)
    assert td.plan(e, k=400).program.bases
    f(data)
    tracemalloc.start()
    try:
        f(data)
        assert tracemalloc.get_traced_memory()[1] < 400 * 400 * 8 / 2
    finally:
        tracemalloc.stop()


def test_evaluate_keeps_nothing() -> None:
    e = td.sum(td.tanh(td.exp(A @ B) - A) @ B, axis=0)
    data = data_of(4, 400)
    e.evaluate(data)
    tracemalloc.start()
    try:
        e.evaluate(data)
        held, _ = tracemalloc.get_traced_memory()
        assert held < 100_000
    finally:
        tracemalloc.stop()


def test_one_set_of_arrays_for_each_call_at_the_same_time() -> None:
    e = td.sum(td.tanh(td.exp(A @ B) - A) @ B, axis=0)
    f, data = td.compile(e), data_of(4, 300)
    f(data)
    tracemalloc.start()
    try:
        for _ in range(20):
            f(data)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: f(data), range(30)))
        held, _ = tracemalloc.get_traced_memory()
        assert held < 3 * td.plan(e, k=300).peak_bytes
    finally:
        tracemalloc.stop()


def test_a_second_call_plans_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    f, data = td.compile(RESULTS), data_of(3, 6)
    out = tuple(np.empty_like(value) for value in f(data))
    f(data, out=out)
    f(**data)
    factored = td.compile(RESULTS[6], output="factored")
    factored(data).todense()

    def planned(*_: Any, **__: Any) -> Any:
        raise AssertionError("planned again")

    monkeypatch.setattr(compiled, "build", planned)
    for values in (data_of(5, 6), {name: np.asfortranarray(value) for name, value in data.items()}):
        f(values)
        f(**values)
        f(values, out=out)
        factored(values).todense()
    with pytest.raises(AssertionError, match="planned again"):
        f(data_of(3, 7))
    with pytest.raises(AssertionError, match="planned again"):
        f({name: value.astype(np.float32) for name, value in data.items()})


def test_types_and_shapes_have_workspaces_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "KEPT", 0)
    f = td.compile(td.tanh(A @ B) @ td.exp(A))
    for n, dtype in itertools.product((2, 6, 3, 6, 1, 0), (np.float64, np.float32, np.complex128, np.float64)):
        data = {name: value.astype(dtype) for name, value in data_of(n, n).items()}
        found = f(A=data["A"], B=data["B"])
        assert found.dtype == dtype
        wanted = np.tanh(data["A"] @ data["B"]) @ np.exp(data["A"])
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_call_that_fails_gives_its_arrays_back() -> None:
    e = td.log(td.exp(A @ B) - A) @ B
    f, data = td.compile(e), {"A": np.full((200, 200), 1e4), "B": np.zeros((200, 200))}
    good = {"A": np.eye(200) / 9, "B": np.eye(200) / 9}
    wanted = f(good)
    tracemalloc.start()
    try:
        for _ in range(10):
            with np.errstate(all="raise"), pytest.raises(td.BindError):
                f(data)
        held, _ = tracemalloc.get_traced_memory()
        assert held < 200 * 200 * 8
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(f(good), wanted)
