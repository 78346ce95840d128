"""Arrays of other libraries: every kind of program on them, and that results stay in library, device and precision.

What is compared with is NumPy's own formula; the arrays are those of array-api-strict, which has the standard and
nothing else, of JAX and, where it is installed, of PyTorch. CuPy needs a GPU.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest.mock import patch

import array_api_strict
import numpy as np
import pytest
from oracle import the_jax
from strategies import DIMS, complex_step
from test_derivatives import BY_HAND, CALLS, PRIMITIVE_SHAPES, PRIMITIVES_BY_HAND
from test_program import KINDS, case_of

import tensordsl as td
from tensordsl.functions.record import elementwise_records, functions, primitive_records

k, m = td.dims("k m")
x, y, A, B = td.vector("x", k), td.vector("y", k), td.matrix("A", k, k), td.matrix("B", k, m)
J = td.jacobian(A * td.outer(x, x), x)
RNG = np.random.default_rng(4)
DATA = {
    "x": RNG.uniform(0.3, 1.3, 4),
    "y": RNG.uniform(0.3, 1.3, 4),
    "A": RNG.normal(size=(4, 4)) + 3 * np.eye(4),
    "B": RNG.normal(size=(4, 3)),
}


def strict() -> ModuleType:
    return array_api_strict


def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


def jax() -> Any:
    return the_jax().numpy


LIBRARIES: dict[str, Callable[[], Any]] = {"strict": strict, "torch": torch, "jax": jax}


@pytest.fixture(params=LIBRARIES)
def xp(request: pytest.FixtureRequest) -> Any:
    return LIBRARIES[request.param]()


def over(xp: Any, data: dict[str, Any], dtype: Any = None) -> dict[str, Any]:
    """The data as arrays of a library."""
    return {name: xp.asarray(np.array(value, dtype)) for name, value in data.items()}


def dtype_name(array: Any) -> str:
    return str(array.dtype).rpartition(".")[2]


def same(found: Any, xp: Any, wanted: Any, dtype: Any = np.float64, tolerance: float = 1e-10) -> None:
    """That the value is an array of the library, of the dtype, and has the entries wanted."""
    assert type(found) is type(xp.asarray([0.0]))
    assert dtype_name(found) == np.dtype(dtype).name
    array, tolerance = np.asarray(found), 1e-4 if np.dtype(dtype).name in ("float32", "complex64") else tolerance
    assert array.shape == np.shape(wanted)
    np.testing.assert_allclose(array, wanted, rtol=tolerance, atol=tolerance)


# --- every kind -----------------------------------------------------------------------------------------------------

REAL = {"logdet", "norm"}  # kinds whose values are real where the data are complex
PRECISIONS = (np.float32, np.float64, np.complex64, np.complex128)
# JAX compiles each step anew, which takes its time.
RUNS = [(name, dtype) for name in LIBRARIES for dtype in (PRECISIONS[::3] if name == "jax" else PRECISIONS)]


@pytest.mark.parametrize(("library", "dtype"), RUNS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_in_every_precision(kind: str, library: str, dtype: type) -> None:
    xp = LIBRARIES[library]()
    case, is_complex = case_of(kind), np.dtype(dtype).kind == "c"
    e = case.expression()
    if kind == "comparison" and is_complex:
        pytest.skip("complex numbers have no order")
    data = {name: (value * (1 + 0.3j) if is_complex else value) for name, value in case.data.items()}
    found, wanted = e.evaluate(over(xp, data, dtype), **DIMS), np.asarray(case.oracle(data))
    if kind in REAL:
        wanted = np.linalg.slogdet(data["A"])[1] if kind == "logdet" else np.linalg.norm(data["B"])
    kept = np.zeros(0, dtype).real.dtype if kind in REAL else np.dtype(bool if kind == "comparison" else dtype)
    if not e.symbols:  # of no data, so that nothing makes it complex; whole numbers may stay whole
        kept = np.dtype(dtype_name(found))
        assert kept in (np.zeros(0, dtype).real.dtype, np.dtype(np.int64))
    same(found, xp, wanted, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_the_derivative_of_every_kind(kind: str, xp: Any) -> None:
    """By JAX's `jit` where there is one."""
    case = case_of(kind)
    e = case.expression()
    compiled = the_jax().jit if xp.__name__ == "jax.numpy" else lambda function: function
    symbols = [case.variables[name] for name in sorted({symbol.name for symbol in e.symbols})]
    f = td.compile([td.jacobian(e, symbol) for symbol in symbols or [td.vector("x", k)]])
    found = compiled(lambda data: f(data, **DIMS))(over(xp, case.data))
    for symbol, jacobian in zip(symbols, found, strict=False):
        wanted = complex_step(lambda values: np.asarray(case.oracle(values), complex), case.data, symbol.name)
        same(jacobian, xp, wanted)


def test_the_flagship(xp: Any) -> None:
    a, v = DATA["A"], DATA["x"]
    wanted = np.einsum("ij,j,ik->ijk", a, v, np.eye(4)) + np.einsum("ij,i,jk->ijk", a, v, np.eye(4))
    f = td.compile((J, td.grad(td.sum(J), x)))
    jacobian, gradient = f(over(xp, {"A": a, "x": v}, np.float32))
    same(jacobian, xp, wanted, np.float32)
    same(gradient, xp, a.sum(0) + a.sum(1), np.float32)
    for size in (1, 5):  # other shapes, planned anew
        same(f(A=xp.ones((size, size)), x=xp.ones(size))[1], xp, np.full(size, 2.0 * size), dtype_of_ones(xp))


def dtype_of_ones(xp: Any) -> str:
    return dtype_name(xp.ones(1))


# --- what programs do that the standard has no word for ---------------------------------------------------------------

v, V, T, U = td.vector("v", 5), td.matrix("V", 5, 3), td.tensor("T", 2, 5, 3), td.tensor("U", 4, 2, 3)
VALUES = {name: RNG.normal(size=shape) for name, shape in {"v": 5, "V": (5, 3), "T": (2, 5, 3), "U": (4, 2, 3)}.items()}
c = np.array([[0.5, -1.0, 2.0], [2.0, 0.25, 1.0], [1.0, 3.0, -2.0]])


def sum_at(shape: tuple[int, ...], places: list[int], values: Any) -> Any:
    found = np.zeros(shape)
    np.add.at(found, places, values)
    return found


def duplication(n: int) -> Any:
    found = np.zeros((n, n, n * (n + 1) // 2))
    for place, (column, row) in enumerate(zip(*np.triu_indices(n), strict=True)):
        found[row, column, place] = found[column, row, place] = 1
    return found.reshape(n * n, -1)


CASES: dict[str, tuple[td.Expr, Callable[..., Any]]] = {
    "slices backwards": (V[::-2, 2:0:-1], lambda v, V: V[::-2, 2:0:-1]),
    "an empty slice": (v[3:3], lambda v, V: v[3:3]),
    "a slice backwards, written": (td.jacobian(v[::-2], v), lambda v, V: np.eye(5)[::-2]),
    "slices of deltas, written": (
        td.jacobian(v[1:] * v[:-1], v),
        lambda v, V: np.eye(5)[1:] * v[:-1, None] + np.eye(5)[:-1] * v[1:, None],
    ),
    "values written backwards": (
        td.jacobian(td.einsum("ij,j->i", V[::-1], td.constant(c[0])), V),
        lambda v, V: np.einsum("ik,j->ikj", np.eye(5)[::-1], c[0]),
    ),
    "an entry, written": (td.grad(v[2] ** 3, v), lambda v, V: np.eye(5)[2] * 3 * v[2] ** 2),
    "a row, written": (td.grad(td.sum(V[-1] ** 3), V), lambda v, V: np.outer(np.eye(5)[4], 3 * V[4] ** 2)),
    "blocks": (td.block([[V, V * 2], [-V, td.zeros(5, 3)]]), lambda v, V: np.block([[V, 2 * V], [-V, 0 * V]])),
    "a gather": (v[[4, 0, 0]], lambda v, V: v[[4, 0, 0]]),
    "a gather along the last axis": (V[:, [2, 2, 0]], lambda v, V: V[:, [2, 2, 0]]),
    "a gather along two axes": (td.vech(td.outer(v, v**2)), lambda v, V: np.outer(v**2, v)[np.triu_indices(5)]),
    "places that come twice": (td.grad(td.sum(V[[1, 1, 4]] * c), V), lambda v, V: sum_at((5, 3), [1, 1, 4], c)),
    "places beside an axis": (td.jacobian(v[[3, 0, 3]] ** 2, v), lambda v, V: np.eye(5)[[3, 0, 3]] * 2 * v),
    "no places": (td.jacobian(v[[]], v), lambda v, V: np.zeros((0, 5))),
    "places of a pattern": (td.duplication(3), lambda v, V: duplication(3)),
    "places in a group": (
        td.jacobian(td.kron(v[[0, 1, 1]], v), v),
        lambda v, V: np.kron(np.eye(5)[[0, 1, 1]], v[:, None]) + np.kron(v[[0, 1, 1], None], np.eye(5)),
    ),
    "a diagonal of three axes": (
        td.einsum("iii->i", td.exp(td.einsum("i,j,k->ijk", v, v, v))),
        lambda v, V: np.exp(v**3),
    ),
    "diagonals of pairs of axes": (
        td.einsum("ijij->ji", td.exp(td.einsum("i,j,k,l->ijkl", v, v[:2], v, v[:2]))),
        lambda v, V: np.exp(np.outer(v[:2], v) ** 2),
    ),
    "a constant": (v[:3] * td.constant(c[:, 0]), lambda v, V: v[:3] * c[:, 0]),
    "one number of many": (v[4] * 2, lambda v, V: v[4] * 2),
    "numbers alone": (td.ones(4, 5) * 2.5, lambda v, V: np.full((4, 5), 2.5)),
    "a value twice": (td.stack([v, v]), lambda v, V: np.stack([v, v])),
}
PRODUCTS = [
    "ij,ij->i",
    "bij,abj->bia",
    "bij,abj->ab",
    "bij,abj->ija",
    "bij,abj->",
    "bij,abk->kjib",
    "bij,abj->ib",
    "bij,acd->bdc",
]


@pytest.mark.parametrize("name", CASES)
def test_what_the_standard_has_no_word_for(name: str, xp: Any) -> None:
    e, oracle = CASES[name]
    data = {n: VALUES[n] for n in ("v", "V")}
    if not e.symbols:  # it is of the library of the data that it has lost
        data = {"v": data["v"]}
    same(e.evaluate(over(xp, data)), xp, oracle(**{n: VALUES[n] for n in ("v", "V")}))
    for given in data.values():
        assert not np.shares_memory(given, np.asarray(e.evaluate(over(xp, data))))


@pytest.mark.parametrize("text", PRODUCTS)
def test_products(text: str, xp: Any) -> None:
    names = ("V", "V") if text == "ij,ij->i" else ("T", "U")
    symbols = {"V": V, "T": T, "U": U}
    found = td.einsum(text, *[symbols[name] for name in names]).evaluate(over(xp, VALUES))
    same(found, xp, np.einsum(text, *[VALUES[name] for name in names]))


def test_data_are_left_as_they_are(xp: Any) -> None:
    """Nothing is written into the data, and no result is one of them, though it be an argument alone."""
    data = over(xp, {"x": DATA["x"], "A": DATA["A"]})
    for e in (x, A.T, A + td.diag(x), A - td.identity(k), td.jacobian(A * td.outer(x, x), x)):
        found = e.evaluate(data)
        assert all(found is not array for array in data.values())
        for name, array in data.items():
            np.testing.assert_array_equal(np.asarray(array), DATA[name])


# --- functions --------------------------------------------------------------------------------------------------------

SCIPY = {"erf", "lgamma", "digamma", "polygamma", "expm", "sqrtm", "solve_sylvester"}  # what NumPy has not
LACKING = {"array_api_strict": SCIPY, "torch": {"sqrtm", "solve_sylvester"}, "jax.numpy": {"sqrtm", "solve_sylvester"}}


def computed(name: str, e: td.Expr, data: dict[str, Any], xp: Any) -> Any:
    """The value; None, when the error says so, where the library lacks the function."""
    if name not in LACKING[xp.__name__]:
        return e.evaluate(data)
    with pytest.raises(td.UnsupportedError, match=rf"{name} is a function of SciPy.*{xp.__name__.split('.')[0]}"):
        e.evaluate(data)
    return None


@pytest.mark.parametrize("name", BY_HAND)
def test_functions_entry_by_entry(name: str, xp: Any) -> None:
    record = elementwise_records[name]
    points = [np.linspace(low, high, 9)[1:-1] for low, high in record.sample]
    symbols: list[Any] = [td.vector(f"a{place}", 7) for place in range(record.arity)]
    data = {symbol.name: point for symbol, point in zip(symbols, points, strict=True)}
    if name == "polygamma":  # its order is a number, not data
        symbols[0], points[0] = 1, np.ones(7)
    found = computed(name, functions[name](*symbols), over(xp, data), xp)
    if found is not None:
        wanted = [BY_HAND[name](*map(float, row)) for row in zip(*points, strict=True)]
        same(found, xp, wanted, bool if record.truth else np.float64, 1e-8 if name == "polygamma" else 1e-10)


@pytest.mark.parametrize("name", PRIMITIVES_BY_HAND)
def test_functions_of_whole_arrays(name: str, xp: Any) -> None:
    for shape in PRIMITIVE_SHAPES.get(name, [(3, 3), (2, 3, 3)]):
        symbol = td.tensor("M", *shape)
        square = len(shape) > 1 and shape[-1] == shape[-2]
        data = RNG.uniform(0.2, 1, shape) + (3 * np.eye(shape[-1]) if square else 0)
        f = CALLS.get(name, functions.get(name))(symbol)
        found = computed(name, f, over(xp, {"M": data}), xp)
        if found is not None and name == "eigenvectors":  # each as long as it likes, up and down
            found = found * xp.sign(found[..., :1, :])
            wanted = PRIMITIVES_BY_HAND[name](data)
            same(found, xp, wanted * np.sign(wanted[..., :1, :]))
        elif found is not None:
            same(found, xp, PRIMITIVES_BY_HAND[name](data))


def test_solving(xp: Any) -> None:
    """An inverse that is applied is a system to solve, by the transposed matrix too, and several times."""
    a, v, b = DATA["A"], DATA["x"], DATA["B"]
    inverse, data = td.linalg.inv(A), over(xp, DATA)
    same((inverse @ x).evaluate(data), xp, np.linalg.solve(a, v))
    same((x @ inverse @ B).evaluate(data), xp, np.linalg.solve(a.T, v) @ b)
    both = td.compile((inverse @ x, inverse.T @ x, inverse @ B))(data)
    for found, wanted in zip(
        both, (np.linalg.solve(a, v), np.linalg.solve(a.T, v), np.linalg.solve(a, b)), strict=True
    ):
        same(found, xp, wanted)
    S = td.matrix("S", k, k, positive_definite=True)
    s = a @ a.T
    e = x @ td.linalg.inv(S) @ x + td.sum(td.linalg.inv(S) @ B)
    same(e.evaluate(over(xp, {**DATA, "S": s})), xp, v @ np.linalg.solve(s, v) + np.linalg.solve(s, b).sum())


def test_truth_values(xp: Any) -> None:
    v = np.array([-1.0, 0.5, 2.0, -3.0])
    data = over(xp, {"x": v, "y": DATA["y"]}, np.float32)
    same((x > 0).evaluate(data), xp, v > 0, bool)
    same((x * (x > 0)).evaluate(data), xp, v * (v > 0), np.float32)
    same(td.sum((x > 0) * (y > 0)).evaluate(data), xp, 2, np.int64)
    same(td.where((x > 0) | (x < -2), x, 7).evaluate(data), xp, np.where((v > 0) | (v < -2), v, 7), np.float32)
    same(td.where(x, y, 0).evaluate(data), xp, DATA["y"], np.float32)


@patch.dict(functions)
@patch.dict(elementwise_records)
@patch.dict(primitive_records)
def test_functions_that_users_add(xp: Any) -> None:
    @td.elementwise(derivative=lambda y, x: y + td.sigmoid(x) * (1 - y), name="swish_over_arrays")
    def swish(x: Any) -> Any:
        return x / (1 + np.exp(-x))

    @td.primitive(
        shape=lambda shape: shape, jacobian=lambda y, place: td.tril(td.ones(4, 4)), axes=1, name="running_over_arrays"
    )
    def running(x: Any) -> Any:
        return np.cumsum(x, axis=-1)

    data = over(xp, {"v": DATA["x"]}, np.float32)
    four = td.vector("v", 4)
    same(swish(four).evaluate(data), xp, DATA["x"] / (1 + np.exp(-DATA["x"])), np.float32)
    same(running(four).evaluate(data), xp, np.cumsum(DATA["x"]), np.float32)

    @td.elementwise(derivative=lambda y, x: y, name="foreign_over_arrays", check=False)
    def foreign(x: Any) -> Any:
        return BESIDE

    with pytest.raises(td.UnsupportedError, match="foreign_over_arrays gives a ndarray for data of"):
        foreign(four).evaluate(data)

    class Hidden:
        def __call__(self, x: Any) -> Any:
            return x

    hidden = td.elementwise(derivative=lambda y, x: 1 + 0 * x, name="hidden_over_arrays")(Hidden())
    with pytest.raises(td.UnsupportedError, match="no Python function, so it runs on NumPy arrays alone"):
        hidden(four).evaluate(data)

    @td.elementwise(derivative=lambda y, x: y, name="rare_over_arrays", check=False)
    def rare(x: Any) -> Any:
        return np.require(x)

    with pytest.raises(td.UnsupportedError, match=r"has no counterpart of np\.require"):
        rare(four).evaluate(data)


BESIDE = np.zeros(4)

# --- numbers ----------------------------------------------------------------------------------------------------------


def test_whole_numbers_stay_exact(xp: Any) -> None:
    big = 2**53 + 1  # no floating-point number of 64 bits
    found = td.sum(x * y).evaluate(x=xp.asarray([big, 1]), y=xp.asarray([1, 1]))
    assert dtype_name(found) == "int64"
    assert int(found) == big + 1
    narrow = td.sum(x * x).evaluate(x=xp.asarray([100, 100], dtype=xp.int8))
    assert (dtype_name(narrow), int(narrow)) == ("int64", 20000)
    assert int(td.sum(x).evaluate(x=xp.asarray([True, True]))) == 2
    wanted = td.jacobian(A * td.outer(x, x), x).evaluate(A=np.arange(4).reshape(2, 2), x=np.array([2, 3]))
    found = J.evaluate(A=xp.asarray([[0, 1], [2, 3]]), x=xp.asarray([2, 3]))
    assert dtype_name(found) == "int64"
    assert np.asarray(found).tolist() == wanted.tolist()


def test_numbers_take_the_precision_of_the_data(xp: Any) -> None:
    a, half = td.scalar("a"), {"x": xp.asarray([1.0, 2.0], dtype=xp.float32)}
    for e, wanted in (
        (x * 2.5 + 1, [3.5, 6]),
        (x / 3, np.array([1, 2]) / 3),
        (x**-1.5, np.array([1, 2]) ** -1.5),
        (x[:1] * td.constant(np.array([0.5])), [0.5]),
        (td.jacobian(x * x, x) + td.identity(k), [[3, 0], [0, 5]]),
    ):
        same(e.evaluate(half), xp, wanted, np.float32)
    same((a * x).evaluate(half, a=2.5), xp, [2.5, 5], np.float32)
    same((y * x).evaluate(half, y=[1, 2]), xp, [1, 4], np.float32)
    same((a * x).evaluate(half, a=2j), xp, [2j, 4j], np.complex64)
    same((1j * x).evaluate(half), xp, [1j, 2j], np.complex64)
    same((x * y).evaluate(half, y=xp.asarray([3, 4])), xp, [3, 8], np.float32)  # whole numbers do not widen them
    same((x * y).evaluate(half, y=xp.asarray([3.0, 4.0], dtype=xp.float64)), xp, [3, 8], np.float64)
    same((x * y).evaluate(half, y=xp.asarray([3j, 4], dtype=xp.complex128)), xp, [3j, 8], np.complex128)
    own = dtype_name(xp.ones(1))  # what the library makes of numbers by itself
    same(td.exp(x).evaluate(x=xp.asarray([0, 1])), xp, np.exp([0, 1]), own)
    same((1 / x).evaluate(x=xp.asarray([1, 4])), xp, [1, 0.25], own)


def test_sizes_that_no_array_shows(xp: Any) -> None:
    """A number that is a size, given by name or found in the data that the expression has lost."""
    data = over(xp, {"x": np.ones(3)}, np.float32)
    hessian = td.hessian(td.sum(x * x), x)
    same(hessian.evaluate(data), xp, 2 * np.eye(3), np.float32)
    same((td.ones(m) * td.sum(x) * td.sum(td.ones(m))).evaluate(data, m=2), xp, [6, 6], np.float32)
    same((td.sum(td.ones(k)) * td.sum(x)).evaluate(data), xp, 9, np.float32)


def test_one_function_takes_turns() -> None:
    """A plan for one library is none for another, whatever was called before, and whatever says the size."""
    f, hessian = td.compile(A @ x), td.compile(td.hessian(td.sum(x * x), x))
    for _ in range(2):
        for xp in (np, array_api_strict, the_jax().numpy, np):
            for dtype in (xp.float32, xp.float64):
                found = f(A=xp.ones((2, 2), dtype=dtype), x=xp.ones(2, dtype=dtype))
                assert type(found) is type(xp.ones(2))
                assert found.dtype == dtype
            assert type(hessian(x=xp.ones(2))) is type(xp.ones(2))


def test_a_library_without_64_bits() -> None:
    """As JAX is unless told, and some devices are: nothing asks for what is not there."""
    device = array_api_strict.Device("no_float64")
    e = td.sum(td.constant(np.arange(4.0)) * td.exp(td.vector("v", 4))[[0, 1, 1, 3]]) + td.logdet(td.matrix("M", 4, 4))
    data = {
        "v": array_api_strict.asarray([1, 2, 3, 4], device=device),
        "M": array_api_strict.asarray(DATA["A"].astype(np.float32), device=device),
    }
    found = e.evaluate(data)
    assert found.device == device
    assert found.dtype == array_api_strict.float32
    wanted = np.arange(4.0) @ np.exp([1, 2, 2, 4]) + np.linalg.slogdet(DATA["A"])[1]
    np.testing.assert_allclose(float(found), wanted, rtol=1e-6)


# --- devices ----------------------------------------------------------------------------------------------------------


def test_everything_is_made_on_the_device_of_the_data() -> None:
    """The devices of array-api-strict take no array of another one."""
    device = array_api_strict.Device("device1")
    for kind in KINDS:
        case = case_of(kind)
        data = {name: array_api_strict.asarray(value, device=device) for name, value in case.data.items()}
        assert case.expression().evaluate(data, **DIMS).device == device
    for e, _ in CASES.values():
        assert e.evaluate({n: array_api_strict.asarray(VALUES[n], device=device) for n in ("v", "V")}).device == device
    a = td.scalar("a")
    data = {"x": array_api_strict.asarray(DATA["x"], device=device)}
    assert (a * x + y).evaluate(data, a=2.0, y=[1, 2, 3, 4]).device == device


def test_devices_do_not_mix() -> None:
    one, other = (
        array_api_strict.asarray([1.0, 2.0], device=array_api_strict.Device(d)) for d in ("device1", "device2")
    )
    with pytest.raises(td.BindError, match=r"on different devices:\n    x  .*device1.*\n    y  .*device2.*\nMove"):
        (x * y).evaluate(x=one, y=other)


# --- tracing ----------------------------------------------------------------------------------------------------------

TRACED = td.sum(td.exp(V[[0, 1, 1]] * td.constant(c)) @ td.ones(3)) * td.sum(td.diag(v) @ V) + td.sum(v[::-1][:2] ** 2)


def traced_by_hand(v: Any, V: Any, xp: Any) -> Any:
    first = xp.exp(V[xp.asarray([0, 1, 1])] * xp.asarray(c)).sum()
    return first * (v[:, None] * V).sum() + (v[3:] ** 2).sum()


def test_jax_compiles_differentiates_and_maps() -> None:
    jax = the_jax()
    f, data = td.compile((TRACED, J)), over(jax.numpy, VALUES)
    jacobian, more = td.compile(J), over(jax.numpy, DATA)

    def value(v: Any, V: Any) -> Any:
        return td.compile(TRACED)(v=v, V=V)

    wanted = traced_by_hand(VALUES["v"], VALUES["V"], np)
    compiled = jax.jit(value)
    same(compiled(data["v"], data["V"]), jax.numpy, wanted)
    same(
        jax.jit(lambda v, V: 2 * f(v=v, V=V, A=more["A"], x=more["x"])[0])(data["v"], data["V"]), jax.numpy, 2 * wanted
    )
    same(f(v=data["v"], V=data["V"], A=more["A"], x=more["x"])[0], jax.numpy, wanted)  # nothing traced was kept
    for place, symbol in enumerate((v, V)):
        slope = jax.grad(value, place)(data["v"], data["V"])
        by_jax = jax.grad(lambda v, V: traced_by_hand(v, V, jax.numpy), place)(data["v"], data["V"])
        same(slope, jax.numpy, np.asarray(by_jax))
        same(slope, jax.numpy, td.grad(TRACED, symbol).evaluate(VALUES))
    gram = td.einsum("mi,m,mj->ij", V, v**2, V)  # no step of which has no derivative where a weight is zero
    by_jax = jax.grad(lambda v: td.compile(gram)(v=v, V=data["V"]).sum())(data["v"].at[1].set(0.0))
    wanted = td.grad(td.sum(gram), v).evaluate(v=np.where(np.arange(5) == 1, 0, VALUES["v"]), V=VALUES["V"])
    same(by_jax, jax.numpy, wanted)
    second = td.jacobian(J, x).evaluate(DATA)
    for transform in (jax.jacfwd, jax.jacrev):
        same(jax.jit(transform(lambda x: jacobian(A=more["A"], x=x)))(more["x"]), jax.numpy, second)
    rows = jax.jit(jax.vmap(lambda x: jacobian(A=more["A"], x=x)))(jax.numpy.stack([more["x"], 2 * more["x"]]))
    same(rows, jax.numpy, np.stack([J.evaluate(DATA), 2 * J.evaluate(DATA)]))


def test_torch_differentiates_and_maps() -> None:
    xp = torch()
    f, jacobian, data, more = td.compile(TRACED), td.compile(J), over(xp, VALUES), over(xp, DATA)
    with xp.inference_mode():  # what a plan keeps from here is of use elsewhere
        f(v=data["v"], V=data["V"])
    for name in ("v", "V"):
        given = {**data, name: data[name].clone().requires_grad_()}
        value = f(v=given["v"], V=given["V"])
        (slope,) = xp.autograd.grad(value, given[name])
        (by_torch,) = xp.autograd.grad(traced_by_hand(given["v"], given["V"], xp), given[name])
        same(slope, xp, by_torch.numpy())
    second = td.jacobian(J, x).evaluate(DATA)
    same(xp.autograd.functional.jacobian(lambda x: jacobian(A=more["A"], x=x), more["x"]), xp, second)
    same(xp.func.jacrev(lambda x: jacobian(A=more["A"], x=x))(more["x"]), xp, second)
    rows = xp.vmap(lambda x: jacobian(A=more["A"], x=x))(xp.stack([more["x"], 2 * more["x"]]))
    same(rows, xp, np.stack([J.evaluate(DATA), 2 * J.evaluate(DATA)]))


# --- errors -----------------------------------------------------------------------------------------------------------


def test_libraries_do_not_mix() -> None:
    with pytest.raises(
        td.BindError, match=r"different libraries:\n    A  numpy\n    x  array_api_strict\nConvert them"
    ):
        (A @ x).evaluate(A=np.ones((2, 2)), x=array_api_strict.ones(2))
    with pytest.raises(td.BindError, match=r"A  jax\n    x  array_api_strict"):
        (A @ x).evaluate(A=the_jax().numpy.ones((2, 2)), x=array_api_strict.ones(2))
    # What the expression does not need may be of any library.
    same(td.sum(x).evaluate(x=array_api_strict.ones(2), A=np.ones((2, 2))), array_api_strict, 2.0)


def test_errors_say_what_is_given(xp: Any) -> None:
    ones = xp.ones(3)
    for e, data, message in (
        (A @ x, {"A": ones, "x": ones}, r"A has 1 axes, shape \(3,\); expected 2"),
        (A @ x, {"A": xp.ones((2, 2)), "x": ones}, "axis 0 of x"),
        (x * y, {"x": ones, "y": ["a", "b", "c"]}, "expected numbers"),
        (x, {}, "There is no data for x"),
    ):
        with pytest.raises(td.BindError, match=message):
            e.evaluate(data)


def test_what_is_for_numpy_alone(xp: Any) -> None:
    data = over(xp, {"A": DATA["A"], "x": DATA["x"]})
    matrix = td.jacobian_matrix(A * td.outer(x, x), x)
    for output in ("sparse", "operator", "factored"):
        with pytest.raises(td.UnsupportedError, match=rf"output='{output}' is made of NumPy arrays; .*td\.jvp"):
            td.compile(matrix, output=output)(data)
    with pytest.raises(td.UnsupportedError, match="out= takes NumPy arrays"):
        td.compile(A @ x)(data, out=np.zeros(4))
    with pytest.raises(td.UnsupportedError, match="memory= is for NumPy arrays"):
        (A @ x).evaluate(data, memory="1GiB")


@pytest.mark.parametrize("name", ["strict", "torch"])
def test_singular_matrices(name: str) -> None:
    xp = LIBRARIES[name]()
    with pytest.raises(td.BindError, match=r"singular for this data .*add a small multiple of td\.identity"):
        td.linalg.inv(A).evaluate(A=xp.zeros((2, 2)))


def test_what_a_library_cannot_do_is_said() -> None:
    with pytest.raises(td.BindError, match=r"array_api_strict cannot compute this with data of the types .*complex128"):
        (x > y).evaluate(x=array_api_strict.asarray([1j]), y=array_api_strict.asarray([2j]))


def test_dask_arrays_take_others_along() -> None:
    """The value is lazy where any of the data are dask's; into an array of the caller's nothing lazy is written."""
    import dask.array

    for given in (np.ones((2, 2)), array_api_strict.ones((2, 2))):
        found = (A @ x).evaluate(A=given, x=dask.array.ones(2))
        assert isinstance(found, dask.array.Array)
        np.testing.assert_array_equal(found.compute(), [2.0, 2.0])
    with pytest.raises(td.UnsupportedError, match="x is a dask array"):
        td.compile(A @ x)(A=np.ones((2, 2)), x=dask.array.ones(2), out=np.zeros(2))


def test_no_library_is_imported_for_numpy() -> None:
    code = (
        "import sys, numpy as np, tensordsl as td\n"
        "k = td.dim('k'); x = td.vector('x', k)\n"
        "td.sum(x * td.scalar('a')).evaluate(x=[1.0, 2.0], a=2)\n"
        "td.jacobian(x * x, x).evaluate({x: np.ones(3)})\n"
        "print([name for name in ('array_api_compat', 'torch', 'jax') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
