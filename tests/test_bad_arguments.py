"""Arguments that make no sense: every function gives a value or an error of the library, and nothing from inside."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensordsl as td

k = td.dim("k")
i = td.indices("i")
x, y, E, a = td.vector("x", 3), td.vector("y", k), td.vector("E", 0), td.scalar("a")
A, B, T = td.matrix("A", 3, 3), td.matrix("B", 3, 4), td.tensor("T", 2, 3, 3)
S = td.matrix("S", 3, 3, symmetric=True)
DATA = {s.name: np.ones([2 if size == k else size for size in s.shape]) for s in (x, y, E, a, A, B, T, S)}
ODD: list[Any] = [
    x, y, A, B, T, a, E, S, k, k + 1, i, x[i], x > 0, td.ones(0, 3), [x, x], [x, A], [[x]], [x[i]], None, "s", "", "x",
    "i->i", "ij,j", b"x", 1, 0, -1, 5, -5, 10**400, 2.5, np.nan, np.inf, 1j, True, np.float64(1), np.int64(1), [], (),
    {}, set(), [1, 2], [1, [2]], [None], ("a",), (0, 0), (0, 1), (1, -1), (3,), (-1,), (3, 3), {"x": 1}, slice(1), ...,
    object(), type, lambda *arguments: None,
]  # fmt: skip
ARRAYS: list[Any] = [np.ones(3), np.ones((3, 3)), np.ones(0), np.array("a"), np.array([None])]
OPEN = {"elementwise", "primitive", "explain", "simplify", "Expr"}  # decorators have tests of their own
NAMES = [name for name in td.__all__ if callable(getattr(td, name)) and not isinstance(getattr(td, name), type)]
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(td, name) for name in NAMES if name not in OPEN},
    **{f"linalg.{name}": function for name, function in vars(td.linalg).items()},
}


@pytest.mark.filterwarnings("ignore")  # of NumPy and SciPy, for data that are singular
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_arguments(name: str) -> None:
    function = FUNCTIONS[name]
    rng = random.Random(name)
    places = [p for p in inspect.signature(function).parameters.values() if p.kind != p.VAR_KEYWORD]
    variable = any(p.kind == p.VAR_POSITIONAL for p in places)
    fixed = [p for p in places if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(1 for p in fixed if p.default is p.empty)
    for _ in range(150):
        count = rng.randint(max(needed, 1), max(3, needed)) if variable else rng.randint(needed, len(fixed))
        given = [rng.choice(ODD + ARRAYS if place < needed or variable else ODD) for place in range(count)]
        with contextlib.suppress(td.TensorDSLError), np.errstate(all="ignore"):
            found = function(*given)
            if isinstance(found, td.Expr):
                str(found)
                found.evaluate(DATA, k=2)


def test_sizes_that_no_shape_shows() -> None:
    total = td.sum(td.ones(k))
    assert td.plan(total, k=5).program.sizes == {"k": 5}
    assert total.evaluate(k=5) == 5


@pytest.mark.parametrize("sign", [1.0, 2.5])
def test_a_sylvester_equation_without_a_solution(sign: float) -> None:
    C = td.matrix("C", 3, 3)
    e = td.linalg.solve_sylvester(A, S, C)
    with pytest.raises(td.BindError, match=r"singular for this data \(A and -B have an eigenvalue in common\)"):
        e.evaluate(A=sign * np.eye(3), S=-sign * np.eye(3), C=np.eye(3))
    rng = np.random.default_rng(2)
    data = {"A": 1e8 * rng.normal(size=(3, 3)), "S": 1e8 * rng.normal(size=(3, 3)), "C": 1e-8 * rng.normal(size=(3, 3))}
    found = e.evaluate(data)
    np.testing.assert_allclose(data["A"] @ found + found @ data["S"], data["C"], rtol=1e-9, atol=1e-18)


def test_matrices_that_are_not_what_they_must_be() -> None:
    with pytest.raises(td.BindError, match="Cholesky factor is taken is not positive definite for this data"):
        td.linalg.cholesky(A).evaluate(A=-np.eye(3))
    with pytest.raises(td.BindError, match=r"is not found for this data.*not finite"):
        td.linalg.pinv(A).evaluate(A=np.full((3, 3), np.nan))


def test_data_that_is_an_expression() -> None:
    with pytest.raises(td.BindError, match=r"data for x is the expression .*evaluate"):
        x.evaluate(x=td.ones(3))


def test_numbers_that_are_truth_values_or_infinite() -> None:
    assert (td.greater(k, 3) * y).evaluate(y=[1.0, 2.0]).tolist() == [0, 0]
    assert (td.ones(2) * np.inf).evaluate().tolist() == [np.inf, np.inf]
