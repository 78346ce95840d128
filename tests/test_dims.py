"""Symbolic sizes: an algebra of polynomials, checked by numbers, and binding to data."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensordsl as td
from tensordsl.dims import Dim, Size, bind, divide, evaluate, product, solve, substitute

VALUES = {"k": 2, "m": 3, "n": 5}
k, m, n = td.dims("k m n")


@st.composite
def sizes(draw: st.DrawFn, depth: int = 3) -> tuple[object, int]:
    """A size, and the number that it is at VALUES."""
    if depth == 0 or draw(st.booleans()):
        name = draw(st.sampled_from([*VALUES, "number"]))
        number = draw(st.integers(-4, 7))
        return (number, number) if name == "number" else (td.dim(name), VALUES[name])
    (a, p), (b, q) = draw(sizes(depth - 1)), draw(sizes(depth - 1))
    operator = draw(st.sampled_from("+-*"))
    return eval(f"a {operator} b", {}, {"a": a, "b": b}), eval(f"p {operator} q", {}, {"p": p, "q": q})


@given(sizes())
def test_arithmetic_is_that_of_numbers(drawn: tuple[object, int]) -> None:
    size, number = drawn
    assert evaluate(size, VALUES) == number
    assert eval(str(size), dict(VALUES)) == number
    assert isinstance(size, int | Size)


@given(sizes(), sizes())
def test_a_size_has_one_form(a: tuple[object, int], b: tuple[object, int]) -> None:
    (p, _), (q, _) = a, b
    assert p + q == q + p
    assert p * q == q * p
    assert (p + q) * 3 == 3 * q + p * 3
    assert hash(p * q) == hash(q * p)
    assert p - p == 0
    assert isinstance(p - p, int)


@given(sizes(), st.sampled_from([2, 3, k, m * k, 2 * n, k**2]))
def test_exact_division_undoes_a_product(drawn: tuple[object, int], by: object) -> None:
    size, _ = drawn
    assert divide(size * by, by) == size


@pytest.mark.parametrize(("a", "b"), [(k + 1, k), (k, m), (3 * k, 2), (k, k**2), (5, 2), (k, k + m)])
def test_no_quotient_where_there_is_none(a: object, b: object) -> None:
    assert divide(a, b) is None


def test_a_dimension_is_its_name() -> None:
    assert td.dim("k") == k
    assert td.dims("k, m") == (k, m)
    assert k != m
    assert k != 2
    assert pickle.loads(pickle.dumps(k)) == k
    assert 1 * k == k
    assert isinstance(k + 0, Dim)


def test_texts() -> None:
    assert str(k * m) == "k*m"
    assert str(k**2 - 1) == "k**2 - 1"
    assert str(1 - k) == "-k + 1"
    assert str(2 * k * m + n) == "2*k*m + n"


def test_product_substitute_solve() -> None:
    assert product([]) == 1
    assert product([k, 3, m]) == 3 * k * m
    assert substitute(k * m + 1, {"k": 4}) == 4 * m + 1
    assert substitute(k, {"k": m}) == m
    assert solve(k * m, 6 * m, ["k"]) == ("k", 6)
    assert solve(2 * k + 1, 7, ["k"]) == ("k", 3)
    assert solve(2 * k, 7, ["k"]) is None
    assert solve(k, -1, ["k"]) is None


def test_binding_solves_composite_sizes_in_any_order() -> None:
    found = bind([(k * m, 6, "axis 0 of v"), (k + 1, 3, "axis 0 of x"), (n, 5, "axis 1 of x")])
    assert found == {"k": 2, "m": 3, "n": 5}


def test_a_dimension_bound_twice_says_where() -> None:
    with pytest.raises(td.BindError) as caught:
        bind([(k, 2, "axis 0 of x"), (k, 3, "axis 1 of A")])
    assert "axis 1 of A is 3, but k = 2 was expected" in str(caught.value)
    assert "k is 2 in axis 0 of x" in str(caught.value)
    with pytest.raises(td.BindError, match=r"no whole k makes equal to 2\*k"):
        bind([(2 * k, 5, "axis 0 of x")])


def test_a_size_is_a_number_in_arithmetic_with_expressions() -> None:
    x = td.vector("x", k)
    data = np.array([1.5, 2.5])
    for expression, expected in [
        (td.sum(x) / k, 2.0),
        (td.sum(x) * (k / 2), 4.0),
        ((2 * np.pi) ** (k / 2), 2 * np.pi),
        (2.0**k, 4.0),
        (k - 0.5, 1.5),
        (0.5 - k, -1.5),
        (k * 1.5, 3.0),
        (1 / k, 0.5),
        (k**0.5, 2**0.5),
        (k / m, 2 / 3),
    ]:
        assert expression.evaluate(x=data, k=2, m=3) == pytest.approx(expected, rel=1e-15)
    for expression, expected in [(k * x, 2 * data), (x - k, data - 2), (k / x, 2 / data), (x**k, data**2)]:
        np.testing.assert_allclose(expression.evaluate(x=data), expected, rtol=1e-15)
    np.testing.assert_array_equal((np.arange(3.0) * k).evaluate(k=2), [0, 2, 4])
    np.testing.assert_array_equal((k + np.arange(3)).evaluate(k=2), [2, 3, 4])
    i = td.indices("i")
    np.testing.assert_allclose((k * x[i]).tensor(i).evaluate(x=data), 2 * data)


def test_what_is_no_size() -> None:
    for bad in (-1, 2.5, "k", True, None):
        with pytest.raises(td.ShapeError, match="a size is a whole number that is not negative"):
            td.vector("x", bad)
    with pytest.raises(td.ParseError, match="cannot name a dimension: a name is letters, digits and underscores"):
        td.dim("2k")
    with pytest.raises(TypeError):
        k + "m"
    with pytest.raises(TypeError):
        {} * k
