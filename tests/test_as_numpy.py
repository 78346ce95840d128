"""NumPy code traced as it is, where shapes and places are easily confused: axes of size one, stacks, empty sums."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensordsl as td

k = td.dim("k")
rng = np.random.default_rng(0)
DATA = {
    "x": rng.normal(size=3),
    "A": rng.normal(size=(3, 3)),
    "B": rng.normal(size=(3, 3)),
    "r": rng.normal(size=(1, 5)),
    "M": np.array([[2.0]]),
}
SHAPES: dict[str, Any] = {"x": (3,), "A": (3, 3), "B": (3, 3), "r": (1, 5), "M": (1, 1)}
CODE: dict[str, Callable[..., Any]] = {
    "squares of sine and cosine on other axes": lambda x: np.sin(x)[:, None] ** 2 + np.cos(x) ** 2,
    "of a matrix and its transpose": lambda A: np.sin(A) ** 2 + np.cos(A).T ** 2,
    "summed on other axes": lambda A, x: (A * np.sin(x)[:, None] ** 2).sum() + (A * np.cos(x) ** 2).sum(),
    "product with a stack of vectors": lambda A, B: getattr(np, "matvec", np.matmul)(A, 1.0 * B),  # NumPy 2.2
    "trapezoid at places along another axis": lambda A, B: np.trapezoid(A, B, axis=0),
    "the first condition that holds": lambda x: np.select([x > 0, x > -1], [x, 2 * x], x * x),
    "cov of one row": lambda r: np.cov(r * 1.0),
    "corrcoef of one row": lambda r: np.corrcoef(r * 1.0),
    "inverse of one entry": lambda M: np.linalg.inv(2 * M),
    "inverse of a product of one entry": lambda x: np.linalg.inv(x[None, :] @ x[:, None]),
    "solve of one entry": lambda x, A: np.linalg.solve(x[None, :] @ A @ x[:, None], x[None, :]),
}


@pytest.mark.parametrize("name", CODE)
def test_as_numpy(name: str) -> None:
    f = CODE[name]
    names = list(inspect.signature(f).parameters)
    e = td.trace_function(f, **{n: SHAPES[n] for n in names})
    found, wanted = np.asarray(e.evaluate({n: DATA[n] for n in names})), np.asarray(f(**{n: DATA[n] for n in names}))
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted)


def test_the_sign_of_an_empty_sum() -> None:
    p = td.vector("p", k, positive=True)
    assert td.sign(td.sum(p)).evaluate(p=np.ones(0)) == 0


@pytest.mark.parametrize("power", [1000, 1000.5, 0.5])
def test_a_coefficient_too_large_to_be_taken_out(power: float) -> None:
    p = td.vector("p", 2, positive=True)
    e = (3 * p * p) ** power if power == 1000 else ((4 if power > 1 else 10**300 * 3) * p) ** power
    td.simplify(e)


def test_delete() -> None:
    x = td.vector("x", 6)
    np.testing.assert_array_equal(np.delete(x, slice(0, 2)).evaluate(x=np.arange(6.0)), np.arange(2.0, 6))
    with pytest.raises(td.TensorDSLError, match="out of bounds"):
        np.delete(x, [9])


def test_positions_and_lists_with_an_axis_between_them_read_back() -> None:
    T = td.tensor("T", k, 5, td.dim("m"))
    for e in (T[[0, 0]][:, :, 1], T[:, :, 1][[0, 0]], T[[0, 2, 2], 1], T[:, 1][[0, 1, 1]][:, 2]):
        assert td.parse(str(e), T=T) == e


def test_diff_takes_no_negative_count() -> None:
    with pytest.raises(td.TensorDSLError):
        np.diff(td.vector("x", 3), -1)
