# ruff: noqa: PLW0108 - a lambda shows what is traced
"""Functions that users add, and NumPy code that is traced: each against the same function on arrays."""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import tensordsl as td
from tensordsl.custom import _own
from tensordsl.functions.record import elementwise_records, functions, primitive_records

k, m = td.dims("k m")
x, y, z = td.vector("x", k), td.vector("y", k), td.vector("z", m)
A, B = td.matrix("A", k, k), td.matrix("B", k, m)
rng = np.random.default_rng(3)
DATA = {
    "x": rng.uniform(0.3, 1.3, 3),
    "y": rng.uniform(0.3, 1.3, 3),
    "z": rng.uniform(0.3, 1.3, 4),
    "A": rng.normal(size=(3, 3)) + 3 * np.eye(3),
    "B": rng.normal(size=(3, 4)),
}


def data_of(*expressions: td.Expr) -> dict[str, np.ndarray]:
    return {s.name: DATA[s.name] for e in expressions for s in e.symbols}


def differences(f: Callable[[np.ndarray], Any], at: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """∂f/∂x by central differences of two widths."""
    columns = []
    for place in np.ndindex(at.shape):
        step = np.zeros(at.shape)
        step[place] = h
        rough, fine = ((f(at + s * step) - f(at - s * step)) / (2 * s * h) for s in (2, 1))
        columns.append((4 * fine - rough) / 3)
    return np.stack(columns, axis=-1).reshape(np.shape(columns[0]) + at.shape)


@pytest.fixture(autouse=True)
def only_what_was_there() -> Iterator[None]:
    """Each test leaves the tables as they were."""
    tables: tuple[Any, ...] = (functions, elementwise_records, primitive_records)
    before = [dict(table) for table in tables]
    own = set(_own)
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)
    _own.clear()
    _own.update(own)


def registered() -> tuple[set[str], ...]:
    return set(functions), set(elementwise_records), set(primitive_records), set(_own)


# --- entry by entry -----------------------------------------------------------------------------------------------


def swish_array(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def lambda_named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = name
    return function


def make_swish() -> Callable[..., td.Expr]:
    @td.elementwise(derivative=lambda value, x: value + td.sigmoid(x) * (1 - value), latex=r"\mathrm{swish}")
    def swish(x):  # type: ignore[no-untyped-def]
        """x times its sigmoid."""
        return x / (1 + np.exp(-x))

    return swish


def ratio_array(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a / (a + b)


def make_ratio(**options: Any) -> Callable[..., td.Expr]:
    @td.elementwise(derivative=lambda value, a, b: (b / (a + b) ** 2, -a / (a + b) ** 2), **options)
    def ratio(a, b):  # type: ignore[no-untyped-def]
        return a / (a + b)

    return ratio


def test_one_argument() -> None:
    swish = make_swish()
    assert swish.__name__ == "swish"
    assert swish.__doc__ == "x times its sigmoid."
    e = swish(A @ x)
    np.testing.assert_allclose(e.evaluate(data_of(e)), swish_array(DATA["A"] @ DATA["x"]))
    J = td.jacobian(e, x)
    np.testing.assert_allclose(
        J.evaluate(data_of(J)), differences(lambda v: swish_array(DATA["A"] @ v), DATA["x"]), rtol=1e-8, atol=1e-9
    )
    f = td.sum(swish(x * x)) * td.sum(x)

    def gradient(v: np.ndarray) -> np.ndarray:
        return differences(lambda w: np.sum(swish_array(w * w)) * np.sum(w), v)

    H = td.hessian(f, x)
    np.testing.assert_allclose(H.evaluate(x=DATA["x"]), differences(gradient, DATA["x"]), rtol=1e-6, atol=1e-6)
    v = td.vector("v", k)
    direction = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(
        td.hvp(f, x, v).evaluate(x=DATA["x"], v=direction), H.evaluate(x=DATA["x"]) @ direction, rtol=1e-10
    )


def test_two_arguments_and_broadcasting() -> None:
    ratio = make_ratio()
    outer = ratio(x[:, None], z)
    assert outer.shape == (k, m)
    wanted = ratio_array(DATA["x"][:, None], DATA["z"])
    np.testing.assert_allclose(outer.evaluate(data_of(outer)), wanted)
    for symbol in (x, z):
        J = td.jacobian(outer, symbol)
        assert J.shape == (k, m, *symbol.shape)
        found = differences(
            lambda v, name=symbol.name: ratio_array(
                *[{**DATA, name: v}[n] if n == "z" else {**DATA, name: v}[n][:, None] for n in "xz"]
            ),
            DATA[symbol.name],
        )
        np.testing.assert_allclose(J.evaluate(data_of(J)), found, rtol=1e-8, atol=1e-9)
    both = td.grad(td.sum(ratio(x, x * x)), x)
    np.testing.assert_allclose(
        both.evaluate(x=DATA["x"]), differences(lambda v: np.sum(ratio_array(v, v * v)), DATA["x"]), rtol=1e-8
    )
    assert td.check_derivative(ratio(x, 2.0), x, {"x": DATA["x"]}) < 1e-6
    np.testing.assert_allclose(ratio(2, x).evaluate(x=DATA["x"]), 2 / (2 + DATA["x"]))
    np.testing.assert_allclose(ratio(1.0, 3.0).evaluate(), 0.25)


def test_one_of_two_derivatives_may_be_zero() -> None:
    @td.elementwise(derivative=lambda value, a, b: (b * 0 + td.cos(a), None), sample=[(0.5, 1.0), (0.5, 1.0)])
    def first(a, b):  # type: ignore[no-untyped-def]
        return np.sin(a) + 0 * b

    assert td.grad(td.sum(first(x, y)), y) == td.zeros(k)
    assert td.simplify(td.grad(td.sum(first(x, y)), x)) == td.cos(x)


def test_in_index_notation() -> None:
    swish = make_swish()
    i, j = td.indices("i j")
    assert (swish(x[i]) * A[i, j]).tensor(i, j) == swish(x)[:, None] * A


def test_text_in_every_form() -> None:
    swish, ratio = make_swish(), make_ratio()
    e = swish(A @ x) + ratio(x, y)
    known = {"A": A, "x": x, "y": y}
    assert str(e) == "ratio(x[i], y[i]) + swish(sum[j](A[i,j]*x[j])) -> [i]"
    for form in ("index", "matrix"):
        text = e.to_string(form)
        assert "swish(" in text and "ratio(" in text
        assert td.parse(text, **known) == e
    latex = e.to_latex() if hasattr(e, "to_latex") else e.to_string("latex")
    assert r"\mathrm{swish}" in latex
    assert r"\operatorname{ratio}" in latex
    assert td.parse("swish(x)", x=x) == swish(x)
    with pytest.raises(td.TensorDSLError):
        td.parse("swish(x, y)", x=x, y=y)


def test_source_that_needs_nothing_else() -> None:
    """What `to_python` writes runs in an empty namespace, the function and its derivative."""
    swish = make_swish()
    for e in (swish(A @ x), td.grad(td.sum(swish(x)), x), td.hessian(td.sum(swish(x)), x)):
        source = e.to_python("f")
        assert "tensordsl" not in source
        scope: dict[str, Any] = {}
        exec(source, scope)
        names = list(inspect.signature(scope["f"]).parameters)
        found = scope["f"](**{name: DATA[name] for name in names})
        np.testing.assert_allclose(found, e.evaluate(data_of(e)), rtol=1e-12)
    compiled = td.compile(swish(A @ x))
    np.testing.assert_allclose(compiled(A=DATA["A"], x=DATA["x"]), swish_array(DATA["A"] @ DATA["x"]))


def test_a_function_without_a_file_has_no_source() -> None:
    scope: dict[str, Any] = {"np": np, "td": td}
    exec("def cube(x):\n    return x * x * x\n", scope)
    cube = td.elementwise(derivative=lambda value, x: 3 * x * x)(scope["cube"])
    np.testing.assert_allclose(cube(x).evaluate(x=DATA["x"]), DATA["x"] ** 3)
    with pytest.raises(td.UnsupportedError, match=r"cube cannot be read.*define it in a file"):
        cube(x).to_python()


def test_a_wrong_derivative_leaves_nothing_behind() -> None:
    before = registered()
    with pytest.raises(td.DerivativeError, match=r"wrong_one is left undefined.*The data are from sample="):

        @td.elementwise(derivative=lambda value, x: 2 * value)
        def wrong_one(x):  # type: ignore[no-untyped-def]
            return np.exp(x)

    with pytest.raises(td.DerivativeError):

        @td.elementwise(derivative=lambda value, a, b: (b, 2 * a))
        def wrong_two(a, b):  # type: ignore[no-untyped-def]
            return a * b

    with pytest.raises(td.ParseError):
        td.parse("wrong_one(x)", x=x)
    assert registered() == before


def test_a_wrong_redefinition_keeps_the_one_that_was_right() -> None:
    swish = make_swish()
    with pytest.raises(td.DerivativeError):

        @td.elementwise(derivative=lambda value, x: 2 * value, name="swish")
        def other(x):  # type: ignore[no-untyped-def]
            return np.exp(x)

    assert td.parse("swish(x)", x=x) == swish(x)


def test_without_a_check_it_is_taken_as_given() -> None:
    @td.elementwise(derivative=lambda value, x: 2 * value, check=False)
    def unchecked(x):  # type: ignore[no-untyped-def]
        return np.exp(x)

    assert td.grad(td.sum(unchecked(x)), x) == 2 * unchecked(x)
    with pytest.raises(td.DerivativeError):
        td.check_derivative(unchecked(x), x, {"x": DATA["x"]})


@pytest.mark.parametrize("name", ["exp", "sum", "logdet", "inv", "einsum", "where"])
def test_names_of_the_library_are_refused(name: str) -> None:
    before = functions[name]
    for make in (
        td.elementwise(derivative=lambda value, x: value, name=name),
        td.primitive(shape=lambda s: s, jacobian=lambda value, place: td.identity(3), name=name),
    ):
        with pytest.raises(td.UnsupportedError, match=f"{name} is a function of the library.*my_{name}"):
            make(swish_array)
    assert functions[name] is before


@pytest.mark.parametrize("name", ["", "2x", "a b", "f!"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(td.TensorDSLError):

        @td.elementwise(derivative=lambda value, x: value, name=name or " ")
        def f(x):  # type: ignore[no-untyped-def]
            return np.exp(x)


def test_errors_of_use() -> None:
    swish, ratio = make_swish(), make_ratio()
    with pytest.raises(td.UnsupportedError, match="ratio takes 2 arguments, not 1"):
        ratio(x)
    with pytest.raises(td.UnsupportedError, match=r"swish takes 1 argument"):
        swish(x, y)
    with pytest.raises(td.ShapeError, match="ratio"):
        ratio(x, z)


def define_times(factor: float) -> Callable[..., td.Expr]:
    if factor == 2:

        @td.elementwise(derivative=lambda value, x: 2)
        def times(x):  # type: ignore[no-untyped-def]
            return 2 * x
    else:

        @td.elementwise(derivative=lambda value, x: 5)
        def times(x):  # type: ignore[no-untyped-def]
            return 5 * x

    return times


def test_defined_anew() -> None:
    """Old expressions keep the old function; the name means the new one."""
    two = define_times(2)
    old = two(x)
    five = define_times(5)
    new = five(x)
    assert new != old
    np.testing.assert_allclose(old.evaluate(x=DATA["x"]), 2 * DATA["x"])
    np.testing.assert_allclose(new.evaluate(x=DATA["x"]), 5 * DATA["x"])
    assert td.parse("times(x)", x=x) == new
    assert td.grad(td.sum(old), x) == 2 * td.ones(k)
    assert td.grad(td.sum(new), x) == 5 * td.ones(k)


def test_defined_anew_and_used_beside_the_old() -> None:
    both = define_times(2)(x) - define_times(5)(x)
    np.testing.assert_allclose(both.evaluate(x=DATA["x"]), -3 * DATA["x"])
    source = both.to_python()
    assert "def times(x):\n    return 2 * x" in source
    assert "def times_1(x):\n    return 5 * x" in source
    assert run(source, x=DATA["x"]) == pytest.approx(-3 * DATA["x"])


def run(source: str, name: str = "f", **data: Any) -> Any:
    """What a source gives in an empty namespace."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    return scope[name](**data)


def test_names_in_programs() -> None:
    """The newest alone has the name as it is; what a program calls it hides neither itself nor its data."""
    define_times(2)
    new = define_times(5)
    assert "times_1" not in new(x).to_python()
    assert run(new(x).to_python("times"), "times", x=DATA["x"]) == pytest.approx(5 * DATA["x"])
    assert run(td.logsumexp(x).to_python("logsumexp"), "logsumexp", x=DATA["x"]) == td.logsumexp(x).evaluate(
        x=DATA["x"]
    )
    times = td.vector("times", k)
    assert (new(times) + times).evaluate(times=DATA["x"]) == pytest.approx(6 * DATA["x"])

    for name in ("f", "np", "lambda", "t0", "complex"):
        odd = td.elementwise(derivative=lambda value, x: 3 * x * x, name=name)(cube_array)
        assert odd(x).evaluate(x=DATA["x"]) == pytest.approx(DATA["x"] ** 3)
        assert run(odd(x * x).to_python(), x=DATA["x"]) == pytest.approx(DATA["x"] ** 6)


def cube_array(x):  # type: ignore[no-untyped-def]
    return x * x * x


def test_functions_of_one_name_under_two() -> None:
    """The name that is given counts, not that of the function in its file."""
    one = td.elementwise(derivative=lambda value, x: 3 * x * x, name="cube")(cube_array)
    other = td.elementwise(derivative=lambda value, x: 3 * x * x, name="third_power")(cube_array)
    assert (one(x) - other(x)).evaluate(x=DATA["x"]) == pytest.approx(np.zeros(3))
    assert "def cube(x)" in one(x).to_python()


def test_a_definition_after_one_that_failed() -> None:
    """What is left of the failed one, as in a traceback, is not taken for the other."""
    kept: list[td.Expr] = []

    def make(factor: float) -> Callable[..., td.Expr]:
        def rule(value: td.Expr, x: td.Expr) -> td.Expr:
            kept.append(value)
            return factor * x

        return td.elementwise(derivative=rule, name="squared")(lambda x: x * x)

    with pytest.raises(td.DerivativeError):
        make(3)
    squared = make(2)
    a0 = td.vector("a0", 7)
    assert kept[0].shape == a0.shape
    assert td.grad(td.sum(squared(a0)), a0) == 2 * a0
    assert squared(a0) != kept[0]


def test_a_constant_derivative_may_be_a_number() -> None:
    times = define_times(2)
    assert td.jacobian(times(x), x) == 2 * td.identity(k)
    assert td.grad(td.sum(times(A)), A) == 2 * td.ones(k, k)


def test_a_ufunc_is_a_function_too() -> None:
    root = td.elementwise(derivative=lambda value, x: 1 / (3 * value * value), name="root")(np.cbrt)
    assert root(x).evaluate(x=DATA["x"]) == pytest.approx(np.cbrt(DATA["x"]))
    with pytest.raises(td.UnsupportedError, match="source of root cannot be read"):
        root(x).to_python()


def test_an_expression_that_comes_from_elsewhere() -> None:
    swish = make_swish()
    stored = pickle.dumps(swish(x))
    assert pickle.loads(stored) == swish(x)
    for table in (functions, elementwise_records):
        del table["swish"]
    with pytest.raises(td.UnsupportedError, match="no function swish here: define it"):
        pickle.loads(stored)


def nothing(*arguments: Any) -> Any:
    return None


def fails(*arguments: Any) -> Any:
    raise KeyError("inside")


def with_default(x, beta=1.0):  # type: ignore[no-untyped-def]
    return x * beta


def with_keyword(x, *, beta):  # type: ignore[no-untyped-def]
    return x * beta


def of_no_argument():  # type: ignore[no-untyped-def]
    return 1.0


RULE = lambda value, x: value  # noqa: E731
ENTRY_BY_ENTRY: dict[str, tuple[dict[str, Any], Any, str]] = {
    "a derivative of None": ({"derivative": None}, swish_array, "derivative=None of swish_array: expected a function"),
    "a derivative that is no function": ({"derivative": 2}, swish_array, "derivative=2 of swish_array"),
    "a derivative that fails": ({"derivative": fails}, swish_array, "derivative= of swish_array fails: KeyError"),
    "a derivative of one argument": ({"derivative": lambda x: x}, swish_array, "fails: TypeError.*It is called with"),
    "a derivative that is a text": ({"derivative": lambda *a: "x"}, swish_array, "gives no expression: 'x'"),
    "a derivative of another shape": ({"derivative": lambda y, x: x[:2]}, swish_array, "does not fit the value"),
    "a derivative that is larger": ({"derivative": lambda y, x: x[:, None] * x}, swish_array, "expected"),
    "too few parts": ({"derivative": lambda y, a, b: a}, ratio_array, "gives 1 part for 2 arguments"),
    "too many parts": ({"derivative": lambda y, a: (a, a)}, swish_array, "gives 2 parts for 1 argument"),
    "a lambda": ({"derivative": RULE}, lambda x: x, "needs one: give name='swish'"),
    "a name that is none": ({"derivative": RULE, "name": 3}, swish_array, "3 cannot name a function"),
    "no function": ({"derivative": RULE}, 3, "3 is no function"),
    "any arguments": ({"derivative": RULE}, nothing, r"argument arguments of nothing is variadic positional"),
    "a default": ({"derivative": RULE}, with_default, "argument beta of with_default has a default"),
    "a keyword": ({"derivative": RULE}, with_keyword, "argument beta of with_keyword is keyword-only"),
    "no argument": ({"derivative": RULE}, of_no_argument, "of_no_argument takes no arguments"),
    "no signature": ({"derivative": RULE, "name": "most"}, max, "most does not say its arguments"),
    "an interval of None": ({"derivative": RULE, "sample": None}, swish_array, "sample=None.*expected an interval"),
    "an interval of one end": ({"derivative": RULE, "sample": (1.0,)}, swish_array, "expected an interval"),
    "an interval of texts": ({"derivative": RULE, "sample": ("a", "b")}, swish_array, "expected an interval"),
    "an interval backwards": ({"derivative": RULE, "sample": (2.0, 1.0)}, swish_array, "lower end first"),
    "an interval without end": ({"derivative": RULE, "sample": (0, np.inf)}, swish_array, "expected an interval"),
    "too many intervals": ({"derivative": RULE, "sample": [(0, 1)] * 2}, swish_array, "2 intervals.*1 argument"),
    "a latex that is no text": ({"derivative": RULE, "latex": 3}, swish_array, "latex=3 of swish_array is no text"),
    "a function that fails": ({"derivative": RULE}, lambda_named("bad", lambda x: x.no), "bad fails on its sample"),
    "a sum": ({"derivative": RULE}, lambda_named("total", lambda x: x.sum()), r"shape \(\).*expected \(7,\)"),
    "a text": ({"derivative": RULE}, lambda_named("word", lambda x: "a"), "gives <U1.*expected real numbers"),
    "nothing": ({"derivative": RULE}, lambda_named("none", lambda x: None), "gives object"),
}


@pytest.mark.parametrize("name", ENTRY_BY_ENTRY)
def test_definitions_that_are_none(name: str) -> None:
    options, function, words = ENTRY_BY_ENTRY[name]
    before = registered()
    with pytest.raises(td.TensorDSLError, match=words):
        td.elementwise(**options)(function)
    assert registered() == before


def test_a_derivative_that_is_right_at_equal_arguments_alone_is_found() -> None:
    with pytest.raises(td.DerivativeError):

        @td.elementwise(derivative=lambda value, a, b: (a, b))
        def product(a, b):  # type: ignore[no-untyped-def]
            return a * b


def test_numpy_meets_it() -> None:
    swish = make_swish()
    assert np.exp(swish(x)) == td.exp(swish(x))
    np.testing.assert_allclose(swish(DATA["x"]).evaluate(), swish_array(DATA["x"]))
    assert np.array([1.0, 2.0, 3.0]) * swish(td.vector("v", 3)) == swish(td.vector("v", 3)) * np.array([1.0, 2.0, 3.0])


# --- functions of whole arrays ------------------------------------------------------------------------------------


def make_running_sum() -> Callable[..., td.Expr]:
    @td.primitive(
        shape=lambda shape: shape,
        jacobian=lambda value, place: td.tril(td.ones(*value.shape, *value.shape)),
        axes=1,
        sample=[np.array([1.0, 2.0, 4.0])],
        latex=r"\Sigma",
    )
    def running_sum(x):  # type: ignore[no-untyped-def]
        return np.cumsum(x)

    return running_sum


def test_a_primitive_with_a_jacobian() -> None:
    running_sum = make_running_sum()
    e = running_sum(x * x)
    np.testing.assert_allclose(e.evaluate(x=DATA["x"]), np.cumsum(DATA["x"] ** 2))
    J = td.jacobian(e, x)
    np.testing.assert_allclose(
        J.evaluate(x=DATA["x"]), differences(lambda v: np.cumsum(v * v), DATA["x"]), rtol=1e-9, atol=1e-10
    )
    H = td.hessian(td.sum(td.sin(e)), x)
    gradient = lambda v: differences(lambda w: np.sum(np.sin(np.cumsum(w * w))), v)  # noqa: E731
    np.testing.assert_allclose(H.evaluate(x=DATA["x"]), differences(gradient, DATA["x"]), rtol=1e-6, atol=1e-6)
    assert td.parse(str(e), x=x) == e
    assert td.parse(e.to_string("matrix"), x=x) == e
    assert r"\Sigma" in (e.to_latex() if hasattr(e, "to_latex") else e.to_string("latex"))
    scope: dict[str, Any] = {}
    exec(e.to_python("f"), scope)
    np.testing.assert_allclose(scope["f"](DATA["x"]), np.cumsum(DATA["x"] ** 2))


def make_gram() -> Callable[..., td.Expr]:
    """X @ X.T by two maps, without its Jacobian of four axes."""

    def push(value: td.Expr, place: int, tangent: td.Expr) -> td.Expr:
        (X,) = value.children
        half = tangent @ X.T
        return half + td.swapaxes(half, -1, -2)

    def pull(value: td.Expr, place: int, adjoint: td.Expr) -> td.Expr:
        (X,) = value.children
        return (adjoint + td.swapaxes(adjoint, -1, -2)) @ X

    @td.primitive(
        shape=lambda shape: (shape[0], shape[0]), push=push, pull=pull, sample=[np.arange(6.0).reshape(2, 3) / 5]
    )
    def gram(X):  # type: ignore[no-untyped-def]
        return X @ X.T

    return gram


def test_a_primitive_with_two_maps() -> None:
    gram = make_gram()
    e = gram(B)
    assert e.shape == (k, k)
    np.testing.assert_allclose(e.evaluate(B=DATA["B"]), DATA["B"] @ DATA["B"].T)
    J = td.jacobian(e, B)
    np.testing.assert_allclose(J.evaluate(B=DATA["B"]), differences(lambda v: v @ v.T, DATA["B"]), rtol=1e-8, atol=1e-9)
    V, W = td.matrix("V", k, m), td.matrix("W", k, k)
    v, w = rng.normal(size=(3, 4)), rng.normal(size=(3, 3))
    forward, backward = td.jvp(e, B, V), td.vjp(e, B, W)
    np.testing.assert_allclose(forward.evaluate(B=DATA["B"], V=v), v @ DATA["B"].T + DATA["B"] @ v.T, rtol=1e-12)
    np.testing.assert_allclose(backward.evaluate(B=DATA["B"], W=w), (w + w.T) @ DATA["B"], rtol=1e-12)
    for found in (forward, backward, td.grad(td.sum(td.sin(e)), B)):
        largest = max(np.prod(s.target.sizes, dtype=object) if all(isinstance(n, int) for n in s.target.sizes)
                      else np.prod([{"k": 30, "m": 40}[str(n)] for n in s.target.sizes])
                      for s in td.plan(found, k=30, m=40).steps)  # fmt: skip
        assert largest <= 30 * 40
    f = td.sum(td.sin(gram(B)))
    gradient = td.grad(f, B)
    wanted = differences(lambda v: np.sum(np.sin(v @ v.T)), DATA["B"])
    np.testing.assert_allclose(gradient.evaluate(B=DATA["B"]), wanted, rtol=1e-8, atol=1e-9)
    hvp = td.hvp(f, B, V)
    step = 1e-4
    slopes = [gradient.evaluate(B=DATA["B"] + s * step * v) for s in (1, -1)]
    np.testing.assert_allclose(
        hvp.evaluate(B=DATA["B"], V=v), (slopes[0] - slopes[1]) / (2 * step), rtol=1e-5, atol=1e-6
    )


def test_a_primitive_of_two_arguments() -> None:
    def jacobian(value: td.Expr, place: int) -> td.Expr:
        a, b = value.children
        n, p = a.shape[0], b.shape[0]
        if place == 0:
            return td.einsum("ik,j->ijk", td.identity(n), b)
        return td.einsum("i,jk->ijk", a, td.identity(p))

    @td.primitive(
        shape=lambda a, b: (*a, *b),
        jacobian=jacobian,
        axes=1,
        sample=[np.array([1.0, 2.0]), np.array([0.5, -1.0, 3.0])],
    )
    def my_outer(a, b):  # type: ignore[no-untyped-def]
        return np.outer(a, b)

    e = my_outer(td.sin(x), z)
    np.testing.assert_allclose(e.evaluate(data_of(e)), np.outer(np.sin(DATA["x"]), DATA["z"]))
    np.testing.assert_allclose(
        td.jacobian(e, x).evaluate(data_of(e), m=4),
        differences(lambda v: np.outer(np.sin(v), DATA["z"]), DATA["x"]),
        rtol=1e-8,
        atol=1e-10,
    )
    with pytest.raises(td.UnsupportedError, match="my_outer takes 2 arguments, not 1"):
        my_outer(x)


def test_a_wrong_primitive_leaves_nothing_behind() -> None:
    before = registered()
    with pytest.raises(td.DerivativeError):

        @td.primitive(
            shape=lambda s: s,
            jacobian=lambda value, place: td.identity(value.shape[0]),
            axes=1,
            sample=[np.array([1.0, 2.0, 4.0])],
        )
        def wrong_sum(x):  # type: ignore[no-untyped-def]
            return np.cumsum(x)

    with pytest.raises(td.UnsupportedError, match="no_rule has no rule"):

        @td.primitive(shape=lambda s: s)
        def no_rule(x):  # type: ignore[no-untyped-def]
            return x

    with pytest.raises(td.UnsupportedError, match="both push= and pull="):

        @td.primitive(shape=lambda s: s, push=lambda value, place, tangent: tangent)
        def half_a_rule(x):  # type: ignore[no-untyped-def]
            return x

    assert registered() == before


@pytest.mark.parametrize(("forward", "backward"), [(2, 3), (3, 2)])
def test_a_pull_that_is_no_transpose_of_the_push_is_found(forward: int, backward: int) -> None:
    with pytest.raises(td.DerivativeError, match="doubled is left undefined"):

        @td.primitive(
            shape=lambda s: s,
            push=lambda value, place, tangent: forward * tangent,
            pull=lambda value, place, adjoint: backward * adjoint,
            axes=1,
            sample=[np.array([1.0, 2.0])],
        )
        def doubled(x):  # type: ignore[no-untyped-def]
            return 2 * x


WHOLE: dict[str, tuple[dict[str, Any], Any, str]] = {
    "a shape of None": ({"shape": None}, np.cumsum, "shape=None of total: expected a function"),
    "a shape that fails": ({"shape": fails}, np.cumsum, "shape= of total fails: KeyError"),
    "a shape that is none": ({"shape": lambda s: 3}, np.cumsum, "shape= of total gives 3; expected a tuple"),
    "a shape of no sizes": ({"shape": lambda s: ("k",)}, np.cumsum, "'k'"),
    "another shape": (
        {"shape": lambda s: ()},
        np.cumsum,
        r"gives an array of shape \(3,\) on its sample; expected \(\)",
    ),
    "a Jacobian that is none": ({"jacobian": 3}, np.cumsum, "jacobian=3 of total"),
    "a Jacobian that fails": ({"jacobian": fails}, np.cumsum, "jacobian= of total fails: KeyError"),
    "a Jacobian of nothing": ({"jacobian": nothing}, np.cumsum, "jacobian= of total gives no expression: None"),
    "a Jacobian of another shape": ({"jacobian": lambda y, p: y}, np.cumsum, r"shape \(3,\); expected \(3, 3\)"),
    "a push of another shape": (
        {"jacobian": None, "push": lambda y, p, t: td.sum(t), "pull": lambda y, p, w: w},
        np.array,
        r"push= of total gives an expression of shape \(\); expected \(3,\)",
    ),
    "a pull of another shape": (
        {"jacobian": None, "push": lambda y, p, t: t, "pull": lambda y, p, w: td.sum(w)},
        np.array,
        r"pull= of total gives an expression of shape \(\); expected \(3, 3\)",
    ),
    "axes that are none": ({"axes": "one"}, np.cumsum, "axes='one' of total"),
    "a sample of numbers": ({"sample": 3.0}, np.cumsum, "no list of arrays.*takes 1 argument"),
    "a sample of two": ({"sample": [np.ones(3)] * 2}, np.cumsum, "one for each argument"),
    "a sample of texts": ({"sample": ["a"]}, np.cumsum, "real numbers"),
    "a function that fails": ({}, fails, "total fails on its sample"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_primitives_that_are_none(name: str) -> None:
    options, function, words = WHOLE[name]
    triangle = lambda value, place: td.tril(td.ones(*value.shape, *value.shape))  # noqa: E731
    usual: dict[str, Any] = {"shape": lambda s: s, "jacobian": triangle, "axes": 1, "sample": [np.ones(3)]}
    before = registered()
    with pytest.raises(td.TensorDSLError, match=words):
        td.primitive(**{**usual, **options}, name="total")(lambda x: function(x))
    assert registered() == before


def test_a_primitive_of_shapes_that_it_does_not_take() -> None:
    gram = make_gram()
    with pytest.raises(td.UnsupportedError, match="shape= of gram fails: IndexError"):
        gram(td.scalar("a"))


# --- NumPy code as it is ------------------------------------------------------------------------------------------

SHAPES: dict[str, Any] = {"x": (k,), "y": (k,), "z": (m,), "A": (k, k), "B": (k, m)}
TRACED: dict[str, Callable[..., Any]] = {
    "np.sum": lambda x: np.sum(x),
    "np.sum of an axis": lambda B: np.sum(B, axis=0),
    "np.sum of two axes": lambda B: np.sum(B, axis=(0, 1)),
    "np.sum keeping axes": lambda B: np.sum(B, axis=-1, keepdims=True),
    "np.mean": lambda B: np.mean(B, axis=1),
    "np.prod": lambda B: np.prod(B, axis=1),
    "np.var": lambda B: np.var(B, axis=0),
    "np.std": lambda B: np.std(B, axis=0, ddof=1),
    "np.max": lambda B: np.max(B, axis=1),
    "np.min": lambda B: np.min(B),
    "np.einsum": lambda A, B: np.einsum("ij,jl->il", A, B),
    "np.einsum without an arrow": lambda A, B: np.einsum("ij,jl", A, B),
    "np.einsum of a diagonal": lambda A: np.einsum("ii->i", A),
    "np.linalg.norm": lambda x: np.linalg.norm(x),
    "np.linalg.norm of a matrix": lambda A: np.linalg.norm(A),
    "np.linalg.norm of an axis": lambda B: np.linalg.norm(B, axis=0),
    "np.linalg.norm of order 1": lambda x: np.linalg.norm(x, 1),
    "np.linalg.norm of order inf": lambda x: np.linalg.norm(x, ord=np.inf),
    "np.linalg.inv": lambda A: np.linalg.inv(A),
    "np.linalg.det": lambda A: np.linalg.det(A),
    "np.linalg.slogdet": lambda A: np.linalg.slogdet(A)[1],
    "np.linalg.solve": lambda A, x: np.linalg.solve(A, x),
    "np.linalg.solve of a matrix": lambda A, B: np.linalg.solve(A, B),
    "np.linalg.matrix_power": lambda A: np.linalg.matrix_power(A, 3),
    "np.linalg.pinv": lambda B: np.linalg.pinv(B),
    "np.linalg.cholesky": lambda A: np.linalg.cholesky(A @ A.T),
    "np.linalg.eigvalsh": lambda A: np.linalg.eigvalsh(A @ A.T),
    "np.where": lambda x, y: np.where(x > y, x, y * y),
    "np.where with a number": lambda x: np.where(x > 0.8, 1.0, x),
    "np.maximum": lambda x, y: np.maximum(x, y),
    "np.minimum": lambda x: np.minimum(x, 0.5),
    "np.clip": lambda x: np.clip(x, 0.4, 1.0),
    "np.abs": lambda x, y: np.abs(x - y),
    "np.sign": lambda x, y: np.sign(x - y),
    "np.log1p": lambda x: np.log1p(x),
    "np.expm1": lambda x: np.expm1(x),
    "np.exp": lambda x: np.exp(-x),
    "np.sqrt": lambda x: np.sqrt(x),
    "np.tanh": lambda x: np.tanh(x) + np.sin(x) * np.cos(x) - np.arctan(x),
    "np.square": lambda x: np.square(x),
    "np.power": lambda x, y: np.power(x, y),
    "np.reciprocal": lambda x: np.reciprocal(x),
    "np.outer": lambda x, z: np.outer(x, z),
    "np.kron": lambda A, B: np.kron(A, B),
    "np.dot": lambda A, x: np.dot(A, x),
    "np.vdot": lambda A: np.vdot(A, A),
    "np.inner": lambda x, y: np.inner(x, y),
    "np.matmul": lambda A, B: np.matmul(A, B),
    "np.tensordot": lambda A, B: np.tensordot(A, B, axes=1),
    "np.trace": lambda A: np.trace(A),
    "np.diag of a vector": lambda x: np.diag(x),
    "np.diag of a matrix": lambda A: np.diag(A),
    "np.diagonal": lambda A: np.diagonal(A),
    "np.tril": lambda A: np.tril(A),
    "np.triu": lambda A: np.triu(A, 1),
    "np.transpose": lambda B: np.transpose(B),
    "np.swapaxes": lambda B: np.swapaxes(B, 0, 1),
    "np.moveaxis": lambda B: np.moveaxis(B, 0, 1),
    "np.concatenate": lambda x, z: np.concatenate([x, z]),
    "np.concatenate of columns": lambda A, B: np.concatenate([A, B], axis=1),
    "np.stack": lambda x, y: np.stack([x, y]),
    "np.block": lambda A, B: np.block([[A, B], [A, B]]),
    "np.expand_dims": lambda x: np.expand_dims(x, 0),
    "np.reshape": lambda B: np.reshape(B, -1),
    "np.ravel": lambda B: np.ravel(B),
    "a slice": lambda x: x[1:],
    "a slice with a step": lambda x: x[::-1],
    "a row": lambda B: B[0],
    "a column": lambda B: B[:, -1],
    "an entry": lambda B: B[1, 2],
    "a list of places": lambda x: x[[0, 2]],
    "a new axis": lambda x, z: x[:, None] * z,
    "an ellipsis": lambda B: B[..., 0],
    "x.sum": lambda B: B.sum(axis=0),
    "x.mean": lambda B: B.mean(axis=0),
    "x.max": lambda x: x.max(),
    "x.T": lambda x, y: x.T @ y,
    "x.dot": lambda x, y: x.dot(y),
    "x.trace": lambda A: A.trace(),
    "x.reshape": lambda B: B.reshape(-1),
    "x.transpose": lambda B: B.transpose(),
    "x.ravel": lambda B: B.ravel(),
    "operators": lambda x, A, y: x @ A @ y - 2 * x @ y / 3 + (-x) @ (+y),
    "powers": lambda x: x**3 + x**-1 + x**2.5 + 2**x,
    "abs()": lambda x: abs(x - 1),
    "shape": lambda x, B: x * B.shape[1],
    "comparison": lambda x, y: np.sum((x > y) * x),
    "log of a sum": lambda x: np.log(np.sum(np.exp(x))),
    "an array that is there": lambda x: np.array([[2.0]]) * x,
}  # fmt: skip


def shapes_of(f: Callable[..., Any]) -> dict[str, Any]:
    return {name: SHAPES[name] for name in inspect.signature(f).parameters}


@pytest.mark.parametrize("name", TRACED)
def test_traced(name: str) -> None:
    f = TRACED[name]
    data = {argument: DATA[argument] for argument in shapes_of(f)}
    wanted = np.asarray(f(**data))
    e = td.trace_function(f, **shapes_of(f))
    assert isinstance(e, td.Expr)
    found = np.asarray(e.evaluate({s.name: data[s.name] for s in e.symbols}, k=3, m=4))
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def loss(x: Any, A: Any, y: Any, rate: float = 0.5) -> Any:
    """An ordinary function of several lines."""
    residual = A @ x - y
    total = residual @ residual
    for power in (1, 2):
        total = total + rate * np.sum(x**power)
    if rate > 1:
        total = total * 100
    return total / residual.shape[0]


def test_a_function_of_several_lines() -> None:
    e = td.trace_function(loss, x=(k,), A=(k, k), y=(k,))
    data = {n: DATA[n] for n in "xAy"}
    np.testing.assert_allclose(e.evaluate(data), loss(**data))
    gradient = td.grad(e, x)
    np.testing.assert_allclose(
        gradient.evaluate(data_of(gradient), k=3),
        differences(lambda v: loss(v, data["A"], data["y"]), data["x"]),
        rtol=1e-7,
    )


def test_tuples_numbers_and_constants() -> None:
    pair = td.trace_function(lambda x, y: (x @ y, [x, y][0] + 1), x=(k,), y=(k,))
    assert isinstance(pair, tuple)
    assert pair == (x @ y, x + 1)
    assert td.trace_function(lambda x: 2.5, x=(k,)) == td.constant(2.5)
    assert td.trace_function(lambda x: np.eye(2), x=(k,)).shape == (2, 2)
    assert td.trace_function(lambda: 3) == td.constant(3)


def test_shapes_may_be_symbols_with_properties() -> None:
    S = td.matrix("S", k, k, symmetric=True)
    e = td.trace_function(lambda x, S: x @ S @ x, x=(k,), S=S)
    assert td.hessian(e, x) == 2 * S
    assert td.trace_function(lambda a, x: a * x, a=(), x=(3,)).shape == (3,)


def test_keywords_and_methods() -> None:
    assert td.trace_function(lambda **known: known["x"] + known["y"], x=(k,), y=(k,)) == x + y

    class Model:
        scale = 3

        def __call__(self, x: Any) -> Any:
            return self.scale * x

        def method(self, x: Any) -> Any:
            return self.scale * np.exp(x)

    assert td.trace_function(Model(), x=(k,)) == 3 * x
    assert td.trace_function(Model().method, x=(k,)) == 3 * td.exp(x)


def branch(x: Any) -> Any:
    doubled = 2 * x
    if doubled[0] > 0:
        return x
    return -x


def to_float(x: Any) -> Any:
    return float(x[0]) + x


def sorts(x: Any) -> Any:
    first = x + 1
    return np.sort(first)


def loops(x: Any) -> Any:
    total = 0
    for entry in x:
        total = total + entry
    return total


def mismatched(x: Any, z: Any) -> Any:
    return x + z


def helper(v: Any) -> Any:
    return np.sort(v)


def calls_a_helper(x: Any) -> Any:
    return helper(x * x)


def writes(x: Any) -> Any:
    x[0] = 1.0
    return x


def floor_divides(x: Any) -> Any:
    return x // 2


@pytest.mark.parametrize(
    ("f", "words", "line", "kind"),
    [
        (branch, "branch", "if doubled[0] > 0:", td.UnsupportedError),
        (to_float, "to_float", "return float(x[0]) + x", td.UnsupportedError),
        (sorts, "np.sort", "return np.sort(first)", td.UnsupportedError),
        (loops, "not iterable", "for entry in x:", td.UnsupportedError),
        (mismatched, "k", "return x + z", td.ShapeError),
        (calls_a_helper, "np.sort", "return np.sort(v)", td.UnsupportedError),
        (writes, "writes", "x[0] = 1.0", td.UnsupportedError),
        (floor_divides, "//", "return x // 2", td.UnsupportedError),
    ],
    ids=lambda item: getattr(item, "__name__", None),
)
def test_what_cannot_be_traced(f: Callable[..., Any], words: str, line: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        td.trace_function(f, **shapes_of(f))
    text = str(caught.value)
    assert text.startswith(f"{f.__name__} cannot be traced")
    assert words in text
    assert line in text
    lines, start = inspect.getsourcelines(helper if f is calls_a_helper else f)
    number = start + next(place for place, code in enumerate(lines) if line in code)
    assert f"line {number}" in text


def test_missing_and_unknown_shapes() -> None:
    with pytest.raises(td.UnsupportedError, match="loss cannot be traced: y has no shape"):
        td.trace_function(loss, x=(k,), A=(k, k))
    with pytest.raises(td.UnsupportedError, match=r"w is no argument of it.*x, A, y, rate"):
        td.trace_function(loss, x=(k,), A=(k, k), y=(k,), w=(k,))
    with pytest.raises(td.TensorDSLError):
        td.trace_function(lambda x: x, x=(-1,))


@pytest.mark.parametrize("f", [lambda x: x.argmax(), lambda x: x.fill(0), lambda x: x.no_such_thing, lambda x: np.none])
def test_a_method_that_is_none_is_an_error_of_the_library(f: Callable[..., Any]) -> None:
    with pytest.raises(td.UnsupportedError, match=r"cannot be traced beyond line \d+"):
        td.trace_function(f, x=(k,))


@pytest.mark.parametrize("f", [lambda x: np.array([x[0], x[1]]), lambda x: np.asarray(x), lambda x: np.mean([x, x])])
def test_an_array_of_entries_says_where(f: Callable[..., Any]) -> None:
    with pytest.raises(td.UnsupportedError, match=r"cannot be traced beyond line \d+(?s:.*)np.stack"):
        td.trace_function(f, x=(3,))


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: None, "what it gives is no expression. None"),
        (lambda x: {"a": x}, "what it gives is no expression"),
        (lambda x: [x, "a"], "what it gives is no expression. 'a'"),
        (lambda x: math.exp(x[0]), "np.exp in place of math.exp"),
        (lambda x: x if x[0] > 0 else -x, "np.where"),
        (lambda x: sum(x), "Sum over an axis with np.sum"),
        (lambda x: np.zeros(x.shape[0]), "np.zeros_like"),
        (writes, "np.concatenate"),
    ],
)
def test_the_way_out(f: Callable[..., Any], words: str) -> None:
    with pytest.raises(td.UnsupportedError, match=words):
        td.trace_function(f, x=(k,))


def test_scipy_is_no_part_of_a_trace() -> None:
    with pytest.raises((td.TensorDSLError, TypeError, ValueError)):
        td.trace_function(lambda A: scipy.linalg.expm(A), A=(3, 3))
