"""Results in arrays of the caller: the same bits as new results, whatever the arrays held, and zeros left alone."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small import WAYS, small
from strategies import DIMS, Case, cases
from test_program import KINDS, case_of

import tensordsl as td
from tensordsl.execution import buffers

k, m = td.dims("k m")
x, y, A, B = td.vector("x", k), td.vector("y", k), td.matrix("A", k, k), td.matrix("B", k, m)
T = td.tensor("T", k, k, k)
N = 5
MARKER = 777.0


def data_of(seed: int, dtype: Any = float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"x": N, "y": N, "A": (N, N), "B": (N, 3), "T": (N, N, N)}
    return {name: (2 * rng.normal(size=shape) + 0.1).astype(dtype) for name, shape in shapes.items()}


FIRST, SECOND = data_of(1), data_of(2)
J = td.jacobian(A * td.outer(x, x), x)
STRUCTURED: dict[str, Any] = {
    "flagship": J,
    "as a matrix": td.jacobian_matrix(A * td.outer(x, x), x),
    "diagonal": td.diag(x),
    "negative": -td.diag(x) * y,
    "identity": td.identity(k) * 2 - td.diag(x),
    "three deltas that meet": td.einsum("i->iii", x) + td.einsum("ij->iij", A) - td.einsum("ij->iji", A),
    "four deltas": sum(td.einsum(f"ij->{out}", A * n) for n, out in enumerate(["iij", "iji", "jii", "jij"], 1)),
    "deltas that meet twice": td.einsum("ij->iijj", A) + td.einsum("ij->ijij", A) - td.einsum("ij->ijji", A),
    "three deltas that meet here and there": sum(
        td.einsum(f"ijl->{out}", T * n) for n, out in enumerate(["iijl", "ijil", "ijll"], 1)
    )
    - td.einsum("ij->iijj", A),
    "one inside another": td.einsum("ij->iij", A) - 2 * td.einsum("i->iii", x),
    "another inside one": 3 * td.einsum("i->iii", x) + td.einsum("ij->jii", A.T),
    "scattered rows": td.jacobian(x[1:] * y[:-1], x),
    "scattered both ways": td.jacobian(x[1:] * x[:-1], x),
    "scattered places": td.jacobian(td.vector("v", N)[[0, 3, 3]], td.vector("v", N)) * y[0],
    "blocks": td.kron(td.identity(k), B),
    "blocks of rows": td.concatenate([td.diag(x), A]),
    "a grouped diagonal": td.diag(td.vec(A)),
    "turned": td.swapaxes(J, 0, 2),
    "times a number": td.sum(x) * td.diag(y),
    "a power of a matrix": td.jacobian(A @ A, A),
    "dense beside": td.outer(x, y) - td.diag(x),
    "nothing": td.zeros(k, k) * x,
}


def layouts(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Arrays of a shape that hold something, lying in different ways."""
    garbage = np.random.default_rng(0).normal(size=shape)
    wide = np.full((2, *(2 * size for size in shape)), np.nan)
    return {
        "plain": garbage,
        "fortran": np.asfortranarray(garbage),
        "transposed": np.full(shape[::-1], np.inf).T,
        "strided": wide[(1, *(slice(None, None, 2) for _ in shape))],
        "reversed": np.full(shape, np.nan)[(slice(None, None, -1),) * len(shape)],
    }


LAYOUTS = tuple(layouts((2,)))


def zeros_of(e: Any) -> np.ndarray:
    """Where an expression has structural zeros, by its sparse form."""
    found = td.compile(e, output="sparse")({**FIRST, "v": FIRST["x"]}, k=N)
    zeros = np.ones(found.shape, bool)
    zeros[found.coords] = False
    return zeros


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", STRUCTURED)
def test_structured_results(name: str, layout: str) -> None:
    e, more = STRUCTURED[name], {"v": FIRST["x"]}
    f = td.compile(e)
    first, second = ({**data, **more} for data in (FIRST, SECOND))
    fresh = [f(data, k=N) for data in (first, second)]
    buffer = layouts(fresh[0].shape)[layout]
    assert f(first, out=buffer, k=N) is buffer
    np.testing.assert_array_equal(buffer, fresh[0])
    for data, wanted in ((second, fresh[1]), (first, fresh[0])):
        f(data, out=buffer, k=N)
        np.testing.assert_array_equal(buffer, wanted)
    assert not np.isnan(buffer).any()


@pytest.mark.parametrize("name", [name for name in STRUCTURED if name not in ("turned", "dense beside", "nothing")])
def test_structural_zeros_are_not_written_again(name: str) -> None:
    """A mark in a structural zero stays; in an array that the function did not fill it goes."""
    e, more = STRUCTURED[name], {"v": FIRST["x"]}
    zeros = zeros_of(e)
    f, buffer = td.compile(e), np.full(zeros.shape, np.nan)
    f({**FIRST, **more}, out=buffer, k=N)
    buffer[zeros] = MARKER
    f({**SECOND, **more}, out=buffer, k=N)
    if name != "scattered places":  # where the data decide what is written, all is
        assert np.all(buffer[zeros] == MARKER)
    np.testing.assert_array_equal(buffer[~zeros], f({**SECOND, **more}, k=N)[~zeros])
    other = np.full_like(buffer, MARKER)
    f({**SECOND, **more}, out=other, k=N)
    assert np.all(other[zeros] == 0)


@pytest.mark.parametrize("way", ["one row", "two threads", "products too"])
@pytest.mark.parametrize("name", STRUCTURED)
def test_structured_results_in_blocks(name: str, way: str) -> None:
    e, more = STRUCTURED[name], {"v": FIRST["x"]}
    wanted = [td.compile(e)({**data, **more}, k=N) for data in (FIRST, SECOND)]
    with small(WAYS[way]):
        f, buffer = td.compile(e), np.full(wanted[0].shape, np.nan)
        for data, truth in zip((FIRST, SECOND, FIRST), (*wanted, wanted[0]), strict=True):
            f({**data, **more}, out=buffer, k=N)
            np.testing.assert_allclose(buffer, truth, rtol=1e-14, atol=1e-14)


@settings(max_examples=100)
@given(st.integers(0, 10**6))
def test_sums_of_random_deltas(seed: int) -> None:
    """Whatever way the diagonals of up to four terms meet, refilling adds each term once."""
    rnd = random.Random(seed)
    ndim = rnd.choice([2, 3, 4])
    e: Any = 0
    for _ in range(rnd.randint(1, 4)):
        output = "".join(rnd.choice("ijl"[: ndim - 1]) for _ in range(ndim))
        letters = "".join(dict.fromkeys(rnd.choice([output, output[::-1]])))
        core = rnd.choice([[x, y, td.exp(x)], [A, A.T, td.sin(A)], [T]][len(letters) - 1])
        e = e + rnd.choice([1, -1, 2, -0.5]) * td.einsum(f"{letters}->{output}", core)
    assume(e.symbols)
    f = td.compile(e)
    buffer = np.full((N,) * ndim, np.nan)
    for data in (FIRST, SECOND, FIRST):
        f(data, out=buffer)
        np.testing.assert_array_equal(buffer, f(data))


@settings(max_examples=60)
@given(cases(3))
def test_random_cases(case: Case) -> None:
    e, data = case.expression(), case.data
    f = td.compile((e, td.jacobian(e, next(iter(case.variables.values())))) if e.ndim < 3 else (e,))
    with np.errstate(all="ignore"):
        fresh = f(data, **DIMS)
        kept = {name: value.copy() for name, value in data.items()}
        out = tuple(np.full(np.shape(value), -3).astype(np.asarray(value).dtype) for value in fresh)
        for _ in range(2):
            f(data, out=out, **DIMS)
            for found, wanted in zip(out, fresh, strict=True):
                np.testing.assert_array_equal(found, wanted)
    assert all(np.array_equal(value, kept[name]) for name, value in data.items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str) -> None:
    case = case_of(kind)
    f = td.compile(case.expression())
    fresh = f(case.data, **DIMS)
    buffer = np.full(np.shape(fresh), 1).astype(np.asarray(fresh).dtype)
    for _ in range(2):
        f(case.data, out=buffer, **DIMS)
        np.testing.assert_array_equal(buffer, fresh)


# --- who filled an array last ---------------------------------------------------------------------------------------

full = td.compile(td.outer(x, y) + A)


def other_array(buffer: np.ndarray) -> np.ndarray:
    return np.frombuffer(memoryview(buffer)).reshape(buffer.shape)


def fails(buffer: np.ndarray) -> None:
    f = td.compile(td.log(td.outer(x, x) - td.outer(x, x) * 2) + A)
    with np.errstate(all="raise"), pytest.raises(td.BindError, match="NumPy cannot compute"):
        f(FIRST, out=buffer)


WRITERS: dict[str, Callable[[np.ndarray], Any]] = {
    "another function": lambda buffer: full(FIRST, out=buffer),
    "another function, into a view": lambda buffer: full(FIRST, out=buffer.T),
    "another function, by way of a memoryview": lambda buffer: full(FIRST, out=other_array(buffer)),
    "the same expression, other types": lambda buffer: td.compile(A * x)(
        {name: value.astype(int) for name, value in FIRST.items()}, out=buffer
    ),
    "another dtype's program": lambda buffer: td.compile(td.outer(x, y) + A)(data_of(3, np.float32), out=buffer),
    "a call that copies": lambda buffer: full({**FIRST, "A": buffer}, out=buffer),
    "one that fails": fails,
}


@pytest.mark.parametrize("name", WRITERS)
def test_refilling_after_something_else_wrote(name: str) -> None:
    f, buffer = td.compile(td.diag(x)), np.empty((N, N))
    f(FIRST, out=buffer)
    buffer[...] = np.where(np.eye(N), buffer, 0)
    WRITERS[name](buffer)
    f(SECOND, out=buffer)
    np.testing.assert_array_equal(buffer, np.diag(SECOND["x"]))


def test_parts_of_one_array() -> None:
    f, whole = td.compile(td.diag(x)), np.full((3, N, N), np.nan)
    truth = np.diag(FIRST["x"])
    for part in (whole[0], whole[1], whole[0], whole[1].T, whole[::2][1], whole[0]):
        full(SECOND, out=whole[0])
        f(FIRST, out=part)
        np.testing.assert_array_equal(part, truth)
    sliding = np.full((N + 1, N), np.nan)
    for part in (sliding[:-1], sliding[1:], sliding[:-1]):  # the same memory in part
        f(FIRST, out=part)
        np.testing.assert_array_equal(part, truth)


def test_results_that_change_places() -> None:
    """Where two results are written to each other's arrays, the zeros of one are not those of the other."""
    f = td.compile((td.diag(x), td.outer(x, y) + A, td.einsum("ij->jij", A), J))
    wanted = f(FIRST)
    a, b, c, d = (np.empty_like(value) for value in wanted)
    for out in ((a, b, c, d), (b, a, d, c), (a, b, c, d), (a, b, d, c)):
        f(FIRST, out=out)
        for found, truth in zip(out, wanted, strict=True):
            np.testing.assert_array_equal(found, truth)


def test_other_sizes_in_the_same_memory() -> None:
    f, memory = td.compile(td.diag(x)), np.full(36, np.nan)
    for n in (6, 5, 6, 3, 6):
        buffer = memory[: n * n].reshape(n, n)
        f(x=np.arange(n) + 1.0, out=buffer)
        np.testing.assert_array_equal(buffer, np.diag(np.arange(n) + 1.0))


def test_data_are_let_go() -> None:
    """A function that is kept holds none of the arrays that it was called with."""
    f, buffer = td.compile(A * x), np.empty((N, N))
    given = data_of(1)
    held = [weakref.ref(given[name]) for name in ("A", "x")]
    f({name: given[name] for name in ("A", "x")}, out=buffer)
    del given
    gc.collect()
    assert all(array() is None for array in held)


def test_arrays_that_are_gone_are_forgotten() -> None:
    f = td.compile(td.diag(x))
    gc.collect()
    before = len(buffers._filled)
    for _ in range(20):
        buffer = np.full((N, N), np.nan)  # often at the address of the one before
        f(FIRST, out=buffer)
        np.testing.assert_array_equal(buffer, np.diag(FIRST["x"]))
        del buffer
    gc.collect()
    assert len(buffers._filled) == before


# --- overlaps -------------------------------------------------------------------------------------------------------


def test_arrays_that_overlap_data() -> None:
    for e, truth in [
        (A @ A.T, lambda a: a @ a.T),
        (A + A.T, lambda a: a + a.T),
        (A.T, lambda a: a.T),
        (2 * A.T - A, lambda a: 2 * a.T - a),
        (td.diag(td.diagonal(A)), lambda a: np.diag(np.diagonal(a))),
    ]:
        for view in (lambda a: a, lambda a: a.T):
            a = FIRST["A"].copy()
            wanted = truth(a.copy())
            buffer = view(a)
            td.compile(e)(A=a, out=buffer)
            np.testing.assert_array_equal(buffer, wanted)
    line = np.arange(9.0)
    td.compile(x + x[0])(x=line[:-1], out=line[1:])
    np.testing.assert_array_equal(line[1:], np.arange(8.0))


def test_arrays_that_overlap_each_other() -> None:
    line = np.zeros(N + 1)
    td.compile((x, 2 * x))(x=FIRST["x"], out=(line[:-1], line[1:]))
    np.testing.assert_array_equal(line[1:], 2 * FIRST["x"])  # the later one wins
    pairs = np.zeros((N, 2))
    td.compile((x, 2 * x))(x=FIRST["x"], out=(pairs[:, 0], pairs[:, 1]))
    np.testing.assert_array_equal(pairs, np.outer(FIRST["x"], [1, 2]))


# --- types, names and errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128, np.int64, ">f8"])
def test_types_of_numbers(dtype: Any) -> None:
    f, data = td.compile((J, td.diag(x), td.sum(x))), data_of(5, dtype)
    fresh = f(data)
    out = tuple(np.full(np.shape(value), 9, dtype) for value in fresh)
    for _ in range(2):
        f(data, out=out)
        for found, wanted in zip(out, fresh, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_results_are_cast_where_that_loses_no_kind() -> None:
    f = td.compile(2 * x)
    assert f(x=np.array([1, 2]), out=np.empty(2)).tolist() == [2.0, 4.0]
    assert f(x=np.array([1.0, 2.0]), out=np.empty(2, np.float32)).dtype == np.float32
    assert f(x=np.array([1.0, 2.0]), out=np.empty(2, complex)).tolist() == [2, 4]
    assert td.compile(x > 1)(x=np.array([1.0, 2.0]), out=np.empty(2)).tolist() == [0.0, 1.0]
    assert td.compile(x > 1)(x=np.array([1.0, 2.0]), out=np.empty(2, bool)).tolist() == [False, True]
    assert td.compile(td.abs(x))(x=np.array([3j, 2]), out=np.empty(2)).tolist() == [3, 2]


REFUSED: list[tuple[Any, Any, str]] = [
    (2 * x, np.empty(N + 1), r"out has the shape \(6,\); expected \(5,\), that of the result\. Give np\.empty"),
    (2 * x, np.empty((N, 1)), r"out has the shape \(5, 1\); expected \(5,\)"),
    (2 * x, np.empty(N, int), r"out has the dtype int64; the result, of float64, does not fit"),
    (1j * x, np.empty(N), r"out has the dtype float64; the result, of complex128, does not fit"),
    (1j * td.sum(x), np.empty(()), r"out has the dtype float64; the result, of complex128, does not fit"),
    (2 * x, [0.0] * N, r"out is a list; expected a NumPy array, np\.empty\(\(5,\)\)"),
    (2 * x, 3.0, "out is a float; expected a NumPy array"),
    (2 * x, np.ma.zeros(N), "out is a MaskedArray; expected a NumPy array"),
    (2 * x, np.broadcast_to(np.zeros(1), (N,)), "out is read-only"),
    ((x, 2 * x), np.empty(N), "one array for each of the 2 results; given were 1"),
    ((x, 2 * x), (np.empty(N), np.empty(2)), r"out\[1\] has the shape \(2,\); expected \(5,\)"),
]


@pytest.mark.parametrize(("e", "out", "words"), REFUSED)
def test_arrays_that_take_no_result(e: Any, out: Any, words: str) -> None:
    with pytest.raises(td.BindError, match=words):
        td.compile(e)(x=FIRST["x"], out=out)


def test_other_outputs_take_no_array() -> None:
    for output in ("sparse", "factored", "operator"):
        with pytest.raises(td.UnsupportedError, match="out= takes dense results"):
            td.compile(A, output=output)(A=FIRST["A"], out=np.empty((N, N)))


def test_sizes_that_no_array_shows() -> None:
    """Programs take them beside the data and the arrays for results."""
    f = td.compile((td.ones(m, k) * x, td.kron(td.identity(m), A)))
    out = np.empty((4, N)), np.full((4 * N, 4 * N), np.nan)
    for data in (FIRST, SECOND):
        f(data, out=out, m=4)
        np.testing.assert_array_equal(out[0], np.ones((4, 1)) * data["x"])
        np.testing.assert_array_equal(out[1], np.kron(np.eye(4), data["A"]))
    with pytest.raises(td.BindError, match="out has the shape"):
        td.compile(td.ones(m, k) * x)(FIRST, out=np.empty((4, N)), m=3)


def test_symbols_and_sizes_called_out_or_memory() -> None:
    out, memory = td.vector("out", k), td.vector("memory", k)
    values = np.arange(3.0)
    assert td.compile(out + 1)(out=values).tolist() == [1, 2, 3]
    assert (out + memory).evaluate(out=values, memory=values).tolist() == [0, 2, 4]
    assert td.compile(memory + 1)(memory=values, out=np.empty(3)).tolist() == [1, 2, 3]
    assert td.ones(td.dim("out")).evaluate(out=2).tolist() == [1, 1]
    assert td.compile(td.ones(td.dim("out")))(out=2).tolist() == [1, 1]
    assert td.compile(td.vector("x", td.dim("out")) + 1)(x=values, out=3).tolist() == [1, 2, 3]
    assert td.ones(td.dim("memory")).evaluate(memory=2).tolist() == [1, 1]
