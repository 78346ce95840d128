"""Running: the outputs that `compile` offers, and the data that a call takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.linalg import LinearOperator

import tensordsl as td

k, m = td.dims("k m")
x, y, A, B = td.vector("x", k), td.vector("y", k), td.matrix("A", k, k), td.matrix("B", k, m)
F = A * td.outer(x, x)
J = td.jacobian(F, x)
RNG = np.random.default_rng(1)
DATA = {"x": RNG.normal(size=4), "A": RNG.normal(size=(4, 4)), "y": RNG.normal(size=4), "B": RNG.normal(size=(4, 3))}
DENSE = np.einsum("ij,j,ik->ijk", DATA["A"], DATA["x"], np.eye(4)) + np.einsum(
    "ij,i,jk->ijk", DATA["A"], DATA["x"], np.eye(4)
)


def test_dense() -> None:
    f = td.compile(J)
    np.testing.assert_allclose(f(x=DATA["x"], A=DATA["A"]), DENSE)
    np.testing.assert_allclose(f({x: DATA["x"], A: DATA["A"]}), DENSE)
    np.testing.assert_allclose(f({"x": DATA["x"]}, A=DATA["A"]), DENSE)
    np.testing.assert_allclose(J.evaluate(DATA), DENSE)
    assert "of A, x" in repr(f)


def test_one_function_serves_every_shape_and_dtype() -> None:
    f = td.compile(A @ x)
    for size in (2, 5, 3, 2):
        for dtype in (np.float64, np.float32, np.int64, np.complex128):
            a, b = np.ones((size, size), dtype), np.arange(size).astype(dtype)
            found = f(A=a, x=b)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, a @ b)


def test_lists_and_numbers_are_data() -> None:
    a = td.scalar("a")
    assert (a * x).evaluate(a=2, x=[1, 2]).tolist() == [2, 4]
    assert float((a + 1).evaluate(a=1.5)) == 2.5
    assert isinstance(td.sum(x).evaluate(x=[1.0, 2.0]), np.float64)


def test_sparse_has_the_entries_that_structure_leaves() -> None:
    found = td.compile(J, output="sparse")(DATA)
    assert isinstance(found, coo_array)
    assert found.shape == (4, 4, 4)
    assert found.nnz == 2 * 4 * 4
    dense = np.zeros(found.shape)
    np.add.at(dense, found.coords, found.data)
    np.testing.assert_allclose(dense, DENSE)
    matrix = td.compile(td.jacobian_matrix(F, x), output="sparse")(DATA)
    np.testing.assert_allclose(matrix.toarray(), DENSE.transpose(1, 0, 2).reshape(16, 4))
    assert td.compile(td.kron(td.identity(k), B), output="sparse")(B=DATA["B"]).nnz == 4 * 12
    assert td.compile(td.zeros(k, m), output="sparse")(k=2, m=3).nnz == 0


def test_operator_is_the_matrix_that_it_never_forms() -> None:
    matrix = td.jacobian_matrix(td.sin(F) + td.exp(A @ x), x) @ td.diag(td.exp(y))
    operator = td.compile(matrix, output="operator")(DATA)
    dense = matrix.evaluate(DATA)
    assert isinstance(operator, LinearOperator)
    assert operator.shape == dense.shape
    v, w = RNG.normal(size=4), RNG.normal(size=16)
    np.testing.assert_allclose(operator @ v, dense @ v)
    np.testing.assert_allclose(operator.T @ w, dense.T @ w)
    np.testing.assert_allclose(operator @ np.eye(4), dense)
    z = {name: value * (1 + 2j) for name, value in DATA.items()}
    operator, dense = td.compile(td.outer(x, y), output="operator")(z), np.outer(z["x"], z["y"])
    np.testing.assert_allclose(operator.H @ (v + 1j), dense.conj().T @ (v + 1j))


def test_operator_of_an_expression_with_symbols_called_like_its_own() -> None:
    v = td.vector("v", k)
    operator = td.compile(td.outer(v, td.vector("direction", k)), output="operator")(v=[1.0, 2], direction=[3.0, 4])
    np.testing.assert_allclose(operator @ [1.0, 1.0], [7, 14])


@pytest.mark.parametrize("output", ["dense", "sparse"])
def test_tuples(output: str) -> None:
    f = td.compile((F, J, A @ A), output=output)
    found = f(DATA)
    assert isinstance(found, tuple)
    for value, wanted in zip(
        found, (DATA["A"] * np.outer(DATA["x"], DATA["x"]), DENSE, DATA["A"] @ DATA["A"]), strict=True
    ):
        if output == "sparse":
            dense = np.zeros(value.shape)
            np.add.at(dense, value.coords, value.data)
            value = dense  # noqa: PLW2901
        np.testing.assert_allclose(value, wanted)
    one = td.compile((F,), output=output)(DATA)
    assert isinstance(one, tuple)
    assert len(one) == 1


def test_tuples_of_operators() -> None:
    first, second = td.compile((A, A.T), output="operator")(DATA)
    np.testing.assert_allclose(first @ DATA["x"], DATA["A"] @ DATA["x"])
    np.testing.assert_allclose(second @ DATA["x"], DATA["A"].T @ DATA["x"])


def test_data_of_lost_symbols_is_ignored_and_gives_sizes() -> None:
    H = td.hessian(td.sum(x * x), x)
    assert not H.symbols
    np.testing.assert_array_equal(H.evaluate(x=np.ones(3)), 2 * np.eye(3))
    np.testing.assert_array_equal(H.evaluate({x: np.ones(3)}), 2 * np.eye(3))
    np.testing.assert_array_equal(H.evaluate(k=3), 2 * np.eye(3))
    np.testing.assert_array_equal(td.compile(H, output="sparse")(k=3).toarray(), 2 * np.eye(3))
    np.testing.assert_array_equal(td.compile(H, output="operator")(k=3) @ np.ones(3), [2, 2, 2])
    np.testing.assert_array_equal((A @ x).evaluate(DATA, k=4), DATA["A"] @ DATA["x"])


def test_sizes_by_name_and_by_composite_axes() -> None:
    v = td.vector("v", k * m)
    np.testing.assert_array_equal(td.unvec(v, (k, m)).evaluate(v=np.arange(6), k=2), np.arange(6).reshape(3, 2).T)
    np.testing.assert_array_equal(td.unvec(v, (k, m)).evaluate(v=np.arange(6), m=3), np.arange(6).reshape(3, 2).T)
    np.testing.assert_array_equal((td.unvec(v, (k, m)) @ td.ones(m) * x).evaluate(v=np.arange(6), x=[1, 1]), [6, 9])
    p = td.dim("p")
    np.testing.assert_array_equal((x + td.basis(k, p)).evaluate(x=np.zeros(3), p=1), [0, 1, 0])


def test_empty_and_single_axes() -> None:
    np.testing.assert_array_equal((A @ x).evaluate(A=np.ones((0, 0)), x=np.ones(0)), np.ones(0))
    assert td.sum(x).evaluate(x=np.ones(0)) == 0
    np.testing.assert_array_equal(J.evaluate(x=[3.0], A=[[2.0]]), [[[12.0]]])
    np.testing.assert_array_equal(td.vector("v", 4)[2:2].evaluate(v=np.ones(4)), [])


def test_a_singular_matrix_is_said_in_words() -> None:
    for e in (td.linalg.inv(A), td.linalg.solve(A, x)):
        with pytest.raises(td.BindError, match="inverted or solved with is singular for this data"):
            e.evaluate(A=np.zeros((2, 2)), x=np.ones(2))


# --- what a call says when the data do not fit --------------------------------------------------------------------


def said(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(td.BindError) as caught:
        call(*arguments, **named)
    return str(caught.value)


def test_missing_data() -> None:
    text = said(F.evaluate, x=DATA["x"])
    assert "There is no data for A of shape (k, k)." in text
    assert "given      x" in text
    assert "evaluate(A=..., x=...)" in text
    assert "There is no data for A of shape (k, k), x of shape (k,)." in said(F.evaluate)


def test_a_dimension_bound_to_two_values() -> None:
    text = said(F.evaluate, x=np.ones(3), A=np.ones((4, 4)))
    assert "axis 0 of x" in text
    assert "(3,)" in text
    assert "k = 4 was expected" in text
    assert "k is 4 in axis 0 of A" in text
    assert "is 4, but k = 5 was expected; k is given by name" in said((A @ x).evaluate, DATA, k=5)


def test_another_number_of_axes() -> None:
    text = said(F.evaluate, x=np.ones((3, 1)), A=np.ones((3, 3)))
    assert "The data for x has 2 axes, shape (3, 1); expected 1, shape (k,)." in text


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("three", "has the dtype <U5; expected numbers"),
        (["a", "b", "c"], "expected numbers (integer, floating or complex)"),
        (np.array([1, None, 2], dtype=object), "has the dtype object"),
        ([[1, 2], [3]], "is no rectangular array of numbers"),
        (None, "has the dtype object"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "expected numbers"),
    ],
)
def test_data_that_are_no_numbers(bad: Any, words: str) -> None:
    text = said(F.evaluate, x=bad, A=np.ones((3, 3)))
    assert "The data for x" in text
    assert words in text


def test_a_size_that_nothing_fixes() -> None:
    text = said(td.identity(k).evaluate)
    assert "No array fixes the size k" in text
    assert "evaluate(..., k=5)" in text
    for bad in (-1, 2.5, True, "3"):
        assert "must be a whole number that is not negative" in said(td.identity(k).evaluate, k=bad)


def test_two_symbols_of_one_name() -> None:
    text = said((x + td.sum(td.vector("x", m))).evaluate, x=np.ones(3))
    assert "Two symbols are called 'x'" in text
    assert "(k,)" in text
    assert "(m,)" in text
    assert "Rename one" in text


def test_data_given_twice_or_by_something_else() -> None:
    assert "given twice" in said(F.evaluate, {"x": np.ones(2)}, x=np.zeros(2), A=np.ones((2, 2)))
    assert "is neither" in said(F.evaluate, {3: np.ones(2)})


def test_what_compile_refuses() -> None:
    with pytest.raises(td.UnsupportedError, match="The output 'csr' is unknown; known are 'dense', 'sparse'"):
        td.compile(J, output="csr")
    with pytest.raises(td.UnsupportedError, match="the tuple of expressions is empty"):
        td.compile(())
    with pytest.raises(td.ShapeError, match="takes a matrix") as caught:
        td.compile(J, output="operator")
    assert "(k, k, k)" in str(caught.value)
    assert "td.jacobian_matrix" in str(caught.value)
    with pytest.raises(td.ShapeError, match="is a scalar"):
        td.compile(td.sum(x), output="sparse")
