"""Derivatives: every function that users call, and every record, against truths that share no code with them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fuzz import differences
from hypothesis import assume, given, settings
from oracle import compiled, the_jax
from strategies import DIMS, Case, cases, central_differences, close, complex_step, random_case

import tensordsl as td
from tensordsl.expr import Expr
from tensordsl.functions.record import elementwise_records, functions, primitive_records
from tensordsl.graph import topological

k, m = td.dims("k m")
x, y, v, w = (td.vector(name, k) for name in "xyvw")
A, B = td.matrix("A", k, k), td.matrix("B", k, m)


def truth(case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The value and the Jacobian of a case; a case where they are no numbers is passed over."""
    with np.errstate(all="ignore"):
        value, jacobian = np.asarray(case.oracle(case.data)), complex_step(case.oracle, case.data, name)
    assume(np.all(np.isfinite(value)) and np.max(np.abs(value), initial=0) < 1e6)
    assume(np.all(np.isfinite(jacobian)) and np.max(np.abs(jacobian), initial=0) < 1e7)
    return value, jacobian


@given(cases(3))
def test_jacobian_jvp_vjp(case: Case) -> None:
    e, data, rng = case.expression(), case.data, np.random.default_rng(case.seed)
    for name, symbol in case.variables.items():
        value, jacobian = truth(case, name)
        found = td.jacobian(e, symbol)
        assert found.shape == e.shape + symbol.shape
        assert close(found.evaluate(data, **DIMS), jacobian)
        direction, adjoint = rng.normal(size=data[name].shape), rng.normal(size=value.shape)
        forward = td.jvp(e, symbol, td.tensor("v_", *symbol.shape))
        assert close(
            forward.evaluate({**data, "v_": direction}, **DIMS), np.tensordot(jacobian, direction, direction.ndim)
        )
        backward = td.vjp(e, symbol, td.tensor("w_", *e.shape))
        assert close(backward.evaluate({**data, "w_": adjoint}, **DIMS), np.tensordot(adjoint, jacobian, value.ndim))


@given(cases(3))
def test_jacobian_matrix_in_both_layouts(case: Case) -> None:
    e, data = case.expression(), case.data
    name, symbol = next(iter(case.variables.items()))
    value, jacobian = truth(case, name)
    rows, columns = range(value.ndim)[::-1], range(value.ndim, jacobian.ndim)[::-1]
    wanted = jacobian.transpose(*rows, *columns).reshape(value.size, data[name].size)
    assert close(td.jacobian_matrix(e, symbol).evaluate(data, **DIMS), wanted)
    assert close(td.jacobian_matrix(e, symbol, layout="denominator").evaluate(data, **DIMS), wanted.T)


@given(cases(2))
def test_differential_is_the_sum_of_jvps(case: Case) -> None:
    e, data, rng = case.expression(), case.data, np.random.default_rng(case.seed)
    directions = {"d" + name: rng.normal(size=value.shape) for name, value in data.items()}
    total = 0.0
    for name in case.variables:
        direction = directions["d" + name]
        total = total + np.tensordot(truth(case, name)[1], direction, direction.ndim)
    assert close(td.differential(e).evaluate({**data, **directions}, **DIMS), total)


@given(cases(2))
@settings(max_examples=40)
def test_hessian_and_hvp(case: Case) -> None:
    """Second derivatives against central differences of complex steps."""
    e, data, rng = case.expression(), case.data, np.random.default_rng(case.seed)
    name, symbol = next(iter(case.variables.items()))
    value, _ = truth(case, name)
    assume(data[name].size <= 12)
    weights = rng.normal(size=value.shape)

    def gradient(values: dict[str, Any]) -> np.ndarray:
        return np.tensordot(weights, complex_step(case.oracle, values, name), value.ndim)

    with np.errstate(all="ignore"):
        rough, wanted = (central_differences(gradient, data, name, h) for h in (1e-3, 3e-4))
    assume(np.all(np.isfinite(wanted)) and close(rough, wanted, 1e-6))
    f = td.sum(e * td.tensor("w_", *e.shape))
    given_data = {**data, "w_": weights, "v_": rng.normal(size=data[name].shape)}
    hessian = td.hessian(f, symbol)
    assert hessian.shape == symbol.shape + symbol.shape
    assert close(hessian.evaluate(given_data, **DIMS), wanted, 1e-5)
    product = td.hvp(f, symbol, td.tensor("v_", *symbol.shape))
    assert close(
        product.evaluate(given_data, **DIMS), np.tensordot(wanted, given_data["v_"], given_data["v_"].ndim), 1e-5
    )


@pytest.mark.parametrize("seed", range(120))
def test_the_cases_of_the_fuzzer(seed: int) -> None:
    """Larger expressions than hypothesis draws; `tests/fuzz.py` runs as many as one has time for."""
    assert list(differences(random_case(seed, 5))) == []


# --- JAX, a second truth ------------------------------------------------------------------------------------------

JAX_CASES: dict[str, tuple[Callable[[], Expr], Callable[[Any], Callable[..., Any]]]] = {
    "flagship": (
        lambda: td.sum((A * td.outer(x, x))[0] * y),
        lambda np_: lambda x, A, y: ((A * np_.outer(x, x))[0] * y).sum(),
    ),
    "logistic": (
        lambda: td.sum(td.log(1 + td.exp(-y * (A @ x)))),
        lambda np_: lambda x, A, y: np_.log(1 + np_.exp(-y * (A @ x))).sum(),
    ),
    "gaussian": (
        lambda: td.logdet(A) + (x - y) @ td.linalg.solve(A, x - y),
        lambda np_: lambda x, A, y: np_.linalg.slogdet(A)[1] + (x - y) @ np_.linalg.solve(A, x - y),
    ),
    "network": (
        lambda: td.sum(td.sigmoid(A @ td.tanh(A @ x)) * y),
        lambda np_: lambda x, A, y: (1 / (1 + np_.exp(-(A @ np_.tanh(A @ x)))) * y).sum(),
    ),
    "determinant": (
        lambda: td.linalg.det(A + td.diag(x)) * td.linalg.norm(y),
        lambda np_: lambda x, A, y: np_.linalg.det(A + np_.diag(x)) * np_.linalg.norm(y),
    ),
    "inverse": (
        lambda: td.trace(td.linalg.inv(A + td.outer(x, y)) @ A),
        lambda np_: lambda x, A, y: np_.trace(np_.linalg.inv(A + np_.outer(x, y)) @ A),
    ),
    "powers": (
        lambda: td.sum(x**3 / (1 + y**2) + td.abs(x) ** y + A**2),
        lambda np_: lambda x, A, y: (x**3 / (1 + y**2) + np_.abs(x) ** y).sum() * 3 + (A**2).sum(),
    ),
}


@pytest.mark.parametrize("name", JAX_CASES)
def test_gradients_and_hessians_are_those_of_jax(name: str) -> None:
    jax = the_jax()
    make, oracle = JAX_CASES[name]
    f, f_jax = make(), oracle(jax.numpy)
    rng = np.random.default_rng(5)
    data = {"x": rng.uniform(0.5, 1.5, 3), "A": rng.normal(size=(3, 3)) + 4 * np.eye(3), "y": rng.uniform(0.5, 1.5, 3)}
    values = tuple(data.values())
    assert close(f.evaluate(data), f_jax(*values), 1e-12)
    symbols = (x, A, y)
    slopes, hessian = (compiled(jax, each(f_jax, (0, 1, 2)), *values) for each in (jax.grad, jax.hessian))
    for found, wanted in zip(td.grad(f, symbols), slopes, strict=True):
        assert close(found.evaluate(data, k=3), wanted, 1e-11)
    for row, wanted_row in zip(td.hessian(f, symbols), hessian, strict=True):
        for found, wanted in zip(row, wanted_row, strict=True):
            assert close(found.evaluate(data, k=3), wanted, 1e-10)
    if name in ("logistic", "inverse"):
        third = compiled(jax, jax.jacfwd(jax.hessian(f_jax)), *values)
        assert close(td.derivative(f, x, order=3).evaluate(data, k=3), third, 1e-9)


# --- every record, on its sample range ----------------------------------------------------------------------------


def polygamma_series(n: int, v: float) -> float:
    """ψₙ(v), by its recurrence up to where the first terms of its asymptotic series are exact (DLMF 5.11.2, 5.15)."""
    if v < 30:
        return polygamma_series(n, v + 1) - (-1) ** n * math.factorial(n) / v ** (n + 1)
    if n == 0:
        return math.log(v) - 1 / (2 * v) - 1 / (12 * v**2) + 1 / (120 * v**4) - 1 / (252 * v**6) + 1 / (240 * v**8)
    assert n == 1
    return 1 / v + 1 / (2 * v**2) + 1 / (6 * v**3) - 1 / (30 * v**5) + 1 / (42 * v**7) - 1 / (30 * v**9)


# The value of each record by functions that share no code with its NumPy source.
BY_HAND = {
    "exp": math.exp, "log": math.log, "sqrt": math.sqrt, "sin": math.sin, "cos": math.cos, "tanh": math.tanh,
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)), "abs": abs, "sign": lambda v: math.copysign(1.0, v), "power": math.pow,
    "expm1": math.expm1, "log1p": math.log1p, "tan": math.tan, "arcsin": math.asin, "arccos": math.acos,
    "arctan": math.atan, "arctan2": math.atan2, "arcsinh": math.asinh, "arccosh": math.acosh, "arctanh": math.atanh,
    "sinh": math.sinh, "cosh": math.cosh, "softplus": lambda v: math.log(1 + math.exp(v)),
    "relu": lambda v: max(v, 0.0), "erf": math.erf, "lgamma": math.lgamma, "digamma": lambda v: polygamma_series(0, v),
    "polygamma": lambda n, v: polygamma_series(int(n), v), "maximum": max, "minimum": min, "equal": operator.eq,
    "not_equal": operator.ne, "where": lambda c, a, b: a if c else b, "greater": operator.gt,
    "less": operator.lt, "greater_equal": operator.ge, "less_equal": operator.le,
    "logical_and": lambda a, b: bool(a and b), "logical_or": lambda a, b: bool(a or b), "logical_not": operator.not_,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(elementwise_records))
@pytest.mark.parametrize("order", [1, 2])
def test_elementwise_records(name: str, order: int) -> None:
    """A record's value is that of Python's own functions, its derivative that of central differences."""
    record = elementwise_records[name]
    rng = np.random.default_rng(7)
    arguments = [td.vector(f"a{place}", 5) for place in range(record.arity)]
    data = {f"a{p}": low + (high - low) * rng.uniform(0.01, 0.99, 5) for p, (low, high) in enumerate(record.sample)}
    if name == "polygamma":  # its order is a number, not data
        arguments, data = [1, arguments[1]], {"a0": np.ones(5), "a1": data["a1"]}
    f = functions[name](*arguments)
    values = [BY_HAND[name](*map(float, row)) for row in zip(*data.values(), strict=True)]
    np.testing.assert_allclose(f.evaluate(data), values, rtol=2e-14)
    variables = [argument for argument in arguments if isinstance(argument, Expr)]
    for by in variables:
        for again in variables if order == 2 else [None]:
            start = f if again is None else td.jacobian(f, again)
            found = td.jacobian(start, by).evaluate(data)
            wanted = central_differences(lambda values, start=start: start.evaluate(values), data, by.name)
            assert close(found, wanted, 1e-7)


def test_sylvester() -> None:
    """A X + X B = C, by each of the three, stacked too."""
    rng = np.random.default_rng(8)
    P, Q, C = td.matrix("P", 3, 3), td.matrix("Q", 2, 2), td.tensor("C", 4, 3, 2)
    data = {"P": rng.normal(size=(3, 3)) + 4 * np.eye(3), "Q": rng.normal(size=(2, 2)), "C": rng.normal(size=(4, 3, 2))}
    X = td.linalg.solve_sylvester(P, Q, C)
    found = X.evaluate(data)
    np.testing.assert_allclose(data["P"] @ found + found @ data["Q"], data["C"], rtol=1e-12)
    for symbol in (P, Q, C):
        first = td.jacobian(X, symbol)
        wanted = central_differences(X.evaluate, data, symbol.name)
        assert close(first.evaluate(data), wanted, 1e-7)
        w = td.tensor("w", 4, 3, 2)
        point = {**data, "w": rng.normal(size=(4, 3, 2))}
        gradient = td.vjp(X, symbol, w)
        assert close(td.jacobian(gradient, P).evaluate(point), central_differences(gradient.evaluate, point, "P"), 1e-6)


PRIMITIVE_SHAPES = {
    "norm": [(4,), (3, 2)], "pinv": [(3, 2), (2, 3), (2, 4, 3)], "polar": [(4, 3), (2, 4, 3)],
    "nuclear_norm": [(4, 3), (2, 4, 3)], "tril": [(4, 3), (2, 3, 4)], "max": [(3,), (2, 3)], "prod": [(4,), (2, 3)],
    "prod_others": [(4,), (2, 3)], "logsumexp": [(3,), (2, 3)],
}  # fmt: skip
CALLS = {
    "nuclear_norm": lambda a: td.linalg.norm(a, "nuc", axis=(-2, -1)),
    "max": lambda a: td.max(a, axis=-1),
    "prod": lambda a: td.prod(a, axis=-1),
}


def stacked(of_matrix: Callable[..., Any], ndim: int = 2) -> Callable[..., Any]:
    """A function of each matrix of a stack."""
    return lambda a: of_matrix(a) if a.ndim == ndim else np.stack([stacked(of_matrix, ndim)(part) for part in a])


def symmetric(a: np.ndarray) -> np.ndarray:
    return (a + a.T) / 2


def taylor(a: np.ndarray) -> np.ndarray:
    """The exponential, by its series at A/64 squared six times."""
    term = total = np.eye(len(a))
    for n in range(1, 25):
        term = term @ a / (64 * n)
        total = total + term
    for _ in range(6):
        total = total @ total
    return total


def babylonian(a: np.ndarray) -> np.ndarray:
    """The square root, by Denman and Beavers' iteration."""
    y, z = a, np.eye(len(a))
    for _ in range(30):
        y, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
    return y


def cofactors(a: np.ndarray) -> np.ndarray:
    minors = [
        [np.linalg.det(np.delete(np.delete(a, j, 0), i, 1)) * (-1) ** (i + j) for j in range(len(a))]
        for i in range(len(a))
    ]
    return np.array(minors)


def spectral(a: np.ndarray) -> np.ndarray:
    vectors = np.linalg.eigh(symmetric(a))[1]
    assert np.allclose(symmetric(a) @ vectors, vectors * np.linalg.eigvalsh(symmetric(a)))
    return vectors


def by_gram(a: np.ndarray) -> np.ndarray:
    """The polar factor A (AᵀA)^(-1/2)."""
    return a @ np.linalg.inv(babylonian(a.T @ a))


# The value of each primitive by routes that share no code with it.
PRIMITIVES_BY_HAND = {
    "inv": stacked(lambda a: np.linalg.solve(a, np.eye(len(a)))),
    "det": stacked(lambda a: np.prod(np.linalg.eigvals(a)).real),
    "logdet": stacked(lambda a: np.log(abs(np.prod(np.linalg.eigvals(a)))).real), "adjugate": stacked(cofactors),
    "norm": lambda a: np.sqrt(np.sum(a * a)),
    "pinv": stacked(lambda a: np.linalg.lstsq(a, np.eye(len(a)), rcond=None)[0]),
    "cholesky": stacked(lambda a: np.linalg.cholesky(symmetric(a))),
    "eigvalsh": stacked(lambda a: np.sort(np.linalg.eigvals(symmetric(a)).real)),
    "eigenvectors": stacked(spectral), "expm": stacked(taylor), "sqrtm": stacked(babylonian), "polar": stacked(by_gram),
    "nuclear_norm": stacked(lambda a: np.linalg.svd(a)[1].sum()), "tril": stacked(np.tril),
    "max": stacked(lambda x: max(x.tolist()), 1), "prod": stacked(lambda x: math.prod(x.tolist()), 1),
    "prod_others": stacked(lambda x: np.prod(x) / x, 1), "logsumexp": stacked(lambda x: np.log(np.exp(x).sum()), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(primitive_records))
@pytest.mark.parametrize("order", [1, 2])
def test_primitive_records(name: str, order: int) -> None:
    record = primitive_records[name]
    rng = np.random.default_rng(3)
    if record.arity > 1:
        pytest.skip("its arguments have shapes of their own: test_sylvester")
    for shape in PRIMITIVE_SHAPES.get(name, [(3, 3), (2, 3, 3)]):
        symbol = td.tensor("M", *shape)
        square = shape[-1] == shape[-2:][0]
        data = {"M": rng.uniform(0.2, 1, shape) + (3 * np.eye(shape[-1]) if square and len(shape) > 1 else 0)}
        f = CALLS.get(name, functions.get(name))(symbol)
        start = f if order == 1 else td.jacobian(f, symbol)
        np.testing.assert_allclose(f.evaluate(data), PRIMITIVES_BY_HAND[name](data["M"]), rtol=1e-9)
        wanted = central_differences(lambda values, start=start: start.evaluate(values), data, "M")
        assert close(td.jacobian(start, symbol).evaluate(data), wanted, 1e-7)


# --- what the calls promise ---------------------------------------------------------------------------------------


def test_tuples_of_symbols() -> None:
    f = td.sum(td.exp(A @ x) * y)
    by_x, by_y = td.grad(f, (x, y))
    assert (by_x, by_y) == (td.grad(f, x), td.grad(f, y))
    assert td.jacobian(A @ x, (A, x)) == (td.jacobian(A @ x, A), td.jacobian(A @ x, x))
    rows = td.hessian(f, (x, y))
    assert rows == ((td.hessian(f, x), td.hessian(f, x, y)), (td.hessian(f, y, x), td.hessian(f, y)))
    assert td.hessian(f, (x, y), A) == (td.hessian(f, x, A), td.hessian(f, y, A))
    assert td.hessian(f, y, A).shape == (k, k, k)
    assert td.jvp(f, (x, y), (v, w)) == td.jvp(f, x, v) + td.jvp(f, y, w)
    assert td.vjp(A @ x, (x, A), w) == (td.vjp(A @ x, x, w), td.vjp(A @ x, A, w))
    both = td.hvp(f, (x, y), (v, w))
    data = {
        "x": np.array([0.5, -1.0]),
        "y": np.array([2.0, 0.3]),
        "A": np.array([[1.0, 0.2], [-0.4, 0.7]]),
        "v": np.array([1.0, 2.0]),
        "w": np.array([-1.0, 0.5]),
    }
    for found, row in zip(both, rows, strict=True):
        wanted = sum(h.evaluate(data) @ data[d] for h, d in zip(row, "vw", strict=True))
        np.testing.assert_allclose(found.evaluate(data), wanted, rtol=1e-12)


def test_orders() -> None:
    f = td.sum(td.sin(x) * td.sum(x**3))
    assert td.derivative(f, x, order=0) is f
    assert td.derivative(f, x) is td.grad(f, x)
    assert td.derivative(f, x, order=2) is td.hessian(f, x)
    third = td.derivative(f, x, order=3)
    assert third.shape == (k, k, k)
    data = {"x": np.array([0.3, -0.8])}
    wanted = central_differences(lambda values: td.hessian(f, x).evaluate(values), data, "x")
    assert close(third.evaluate(data), wanted, 1e-8)
    assert td.derivative(A @ x, x, order=2) == td.zeros(k, k, k)


def test_no_jacobian_is_formed_by_products() -> None:
    """jvp, vjp and hvp of k×k maps hold nothing of more than k² entries."""
    F = td.tanh(A * td.outer(x, x)) @ x
    f = td.sum(td.exp(F))
    for found in (
        td.jvp(F, A, td.matrix("V", k, k)),
        td.vjp(F, A, w),
        td.hvp(f, x, v),
        td.hvp(f, A, td.matrix("V", k, k)),
    ):
        program = td.plan(found, k=50).program
        assert (
            max(
                np.prod([50 if size == k else size for size in i.target.sizes], dtype=int) for i in program.instructions
            )
            <= 50**2
        )


def test_what_is_lost_is_zero_and_what_is_kept_is_the_identity() -> None:
    assert td.jacobian(x, x) is td.identity(k)
    assert td.grad(td.sum(y), x) is td.zeros(k)
    assert td.vjp(A @ x, x, w) is A.T @ w
    assert td.jvp(A @ x, x, v) is A @ v
    assert td.hessian(x @ A @ x, x) is A + A.T


def nodes(*roots: Expr) -> int:
    return len(topological(roots))


CHAINS: dict[str, Callable[[Expr], Expr]] = {
    "sin": td.sin,
    "sin + x": lambda e: td.sin(e) + x,
    "x * e": lambda e: e * x,
    "A @ e": lambda e: A @ e,
    "e + e*e": lambda e: e + e * e,
    "e + sin(e)": lambda e: e + td.sin(e),
    "e * sin(e)": lambda e: e * td.sin(e),
    "-e": lambda e: x - td.cos(e),
    "slices": lambda e: td.sin(e[::-1]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_stay_linear(name: str) -> None:
    """Twice the length is twice the nodes: of the expression, its gradient, its jvp, and its program."""

    def grown(length: int) -> list[int]:
        e = functools.reduce(lambda e, _: CHAINS[name](e), range(length), x)
        gradient, forward = td.grad(td.sum(e), x), td.jvp(e, x, v)
        return [nodes(e), nodes(gradient), nodes(forward), len(td.plan(gradient, k=3).steps)]

    for short, long in zip(grown(60), grown(120), strict=True):
        assert long <= 2.2 * short + 10


def test_ten_thousand_operations() -> None:
    e: Expr = x
    for _ in range(5000):
        e = td.sin(e) + x
    gradient = td.grad(td.sum(e), x)
    assert nodes(gradient) <= 30_000
    point = {"x": np.array([0.2, 0.4])}
    value, slope = point["x"], np.ones(2)
    for _ in range(5000):
        value, slope = np.sin(value) + point["x"], np.cos(value) * slope + 1
    np.testing.assert_allclose(gradient.evaluate(point), slope, rtol=1e-9)


def test_doubling_is_linear() -> None:
    e = x
    for _ in range(50):
        e = e + e
    assert e is 2**50 * x
    e = td.exp(x)
    for _ in range(50):
        e = td.sin(e + e)
    assert nodes(e) <= 200
    assert nodes(td.jacobian(e, x)) <= 600


def test_a_missing_rule_says_which() -> None:
    from tensordsl.derivatives import local_jacobian

    with pytest.raises(td.UnsupportedError, match="no rule for the derivative of a Symbol node"):
        local_jacobian(x, 0)


def test_a_derivative_by_one_number_is_a_forward_sweep() -> None:
    """d expm(tA)/dt = A expm(tA), since A commutes with it: no matrix of twice the size."""
    t, A, x = td.scalar("t"), td.matrix("A", 3, 3), td.vector("x", 3)
    e = td.linalg.expm(t * A)
    assert td.jacobian(e, t).to_string("matrix") == "A @ expm(t*A)"
    assert td.grad(x @ e @ x, t).to_string("matrix") == "xᵀ @ A @ expm(t*A) @ x"
    assert td.differential(td.trace(td.linalg.expm(A)), A).to_string("matrix") == "trace(expm(A) @ dA)"
    assert td.check_derivative(td.linalg.expm(td.sin(t) * A + A @ A) @ x, t) < 1e-7
    assert td.jacobian(x, t).evaluate().tolist() == [0, 0, 0]
