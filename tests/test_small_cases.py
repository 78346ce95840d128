"""Small cases that larger tests pass over: each fails where one line of the library is wrong."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace as N
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import tensordsl as td

rng = np.random.default_rng(3)
X = td.vector("X", 3)
A, B, C = td.matrix("A", 3, 3), td.matrix("B", 2, 2), td.matrix("C", 2, 3)
T = td.tensor("T", 2, 3, 4)
DATA = {"X": np.array([-2.0, -0.5, 0.5]), "A": rng.uniform(0.5, 2, (3, 3)), "B": rng.uniform(0.5, 2, (2, 2)),
        "C": rng.uniform(0.5, 2, (2, 3)), "T": rng.normal(size=(2, 3, 4))}  # fmt: skip


def value(e: Any, **data: Any) -> Any:
    given = {**DATA, **data}
    return np.asarray(e.evaluate({s.name: given[s.name] for s in e.symbols}))


NO_TRUTH = [2 * (X > 0), -(X > 0), td.sum(X > 0), td.sum((A > 0), axis=0), (X > 0) + 0 * X + (X > 1)]


@pytest.mark.parametrize("other", NO_TRUTH)
def test_what_is_no_truth_value_is_refused(other: Any) -> None:
    with pytest.raises(td.UnsupportedError, match="& is of truth values"):
        other & (X > 0)


def test_select_takes_the_first_that_is_true() -> None:
    def f(X: Any) -> Any:
        return np.select([X > 0, X > -1], [X, X * X], 3.0)

    np.testing.assert_allclose(value(td.trace_function(f, X=(3,))), f(DATA["X"]))


MOVES = [([0, 1], [2, 0]), ([2, 0], [0, 1]), ([0, 1, 2], [1, 2, 0]), ([1, 2], [1, 0])]


@pytest.mark.parametrize(("start", "end"), MOVES)
def test_moveaxis_of_several(start: list[int], end: list[int]) -> None:
    np.testing.assert_array_equal(value(td.moveaxis(T, start, end)), np.moveaxis(DATA["T"], start, end))


def test_a_sylvester_equation_of_a_stack_and_one_right_side() -> None:
    M = rng.normal(size=(4, 3, 3))
    found = value(td.linalg.solve_sylvester(td.tensor("M", 4, 3, 3), A, A), M=M)
    wanted = [scipy.linalg.solve_sylvester(m, DATA["A"], DATA["A"]) for m in M]
    np.testing.assert_allclose(found, wanted)


def test_a_constant_is_symmetric_only_where_it_is() -> None:
    for array in ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.5, 1.0]]):
        np.testing.assert_array_equal(td.constant(array).T.evaluate(), np.transpose(array))
        assert td.constant(array) != td.constant(array).T
    same = td.constant([[1.0, 2.0], [2.0, 4.0]])
    assert same.T is same


def test_an_empty_sum_of_exponentials() -> None:
    with np.errstate(divide="ignore"):
        assert td.log(td.sum(td.exp(td.vector("E", 0)))).evaluate(E=np.ones(0)) == -np.inf


def test_kroneckers_of_other_sizes_are_not_joined() -> None:
    e = td.kron(td.identity(2), A) + td.kron(td.identity(3), B)
    wanted = np.kron(np.eye(2), DATA["A"]) + np.kron(np.eye(3), DATA["B"])
    np.testing.assert_allclose(value(e), wanted)
    e = td.kron(td.identity(2), td.exp(A)) + td.kron(td.identity(3), td.exp(B)) + td.kron(td.identity(2), td.sin(A))
    wanted = np.kron(np.eye(2), np.exp(DATA["A"]) + np.sin(DATA["A"])) + np.kron(np.eye(3), np.exp(DATA["B"]))
    np.testing.assert_allclose(value(e), wanted)


SLICES: list[Callable[[Any, Any], Any]] = [
    lambda vec, m: vec(m.C)[1:5],
    lambda vec, m: vec(m.A @ m.C.T)[1:4],
    lambda vec, m: m.kron(m.C, m.B)[1:3, 2:5],
    lambda vec, m: m.concatenate([vec(m.C), vec(m.B)])[4:8] * vec(m.B),
    lambda vec, m: m.concatenate([vec(m.C), vec(m.B)]) @ m.concatenate([vec(m.B), vec(m.C)]),
    lambda vec, m: m.kron(m.A, m.B)[::2] @ vec(m.C),
]


@pytest.mark.parametrize("f", SLICES)
def test_slices_of_grouped_axes(f: Callable[[Any, Any], Any]) -> None:
    ours = f(td.vec, N(A=A, B=B, C=C, kron=td.kron, concatenate=td.concatenate))
    theirs = f(
        lambda a: a.T.reshape(-1),
        N(A=DATA["A"], B=DATA["B"], C=DATA["C"], kron=np.kron, concatenate=np.concatenate),
    )
    np.testing.assert_allclose(value(ours), theirs)


LATEX: list[tuple[str, Callable[[Any, Any, Any], Any]]] = [
    (r"\sqrt[3]{A}", lambda A, B, C: np.cbrt(A)),
    (r"\sqrt[3]{A} B", lambda A, B, C: np.cbrt(A) @ A),
    (r"\begin{Vmatrix} A \end{Vmatrix}", lambda A, B, C: np.linalg.norm(A)),
    (r"\begin{vmatrix} A \end{vmatrix}", lambda A, B, C: np.linalg.det(A)),
    (r"C + 0_{2 \times 3}", lambda A, B, C: C),
    (r"\|A\|_\infty", lambda A, B, C: np.linalg.norm(A, np.inf)),
    (r"\|A\|_1", lambda A, B, C: np.linalg.norm(A, 1)),
    (r"\|A\|_*", lambda A, B, C: np.linalg.norm(A, "nuc")),
    (r"\|A\|_2", lambda A, B, C: np.linalg.norm(A, 2)),
    (r"A^{-\top} A", lambda A, B, C: np.linalg.inv(A).T @ A),
]


@pytest.mark.parametrize(("text", "wanted"), LATEX)
def test_latex(text: str, wanted: Any) -> None:
    found = td.parse(text, dialect="latex", A=(3, 3), B=(3, 3), C=(2, 3))
    data = {**DATA, "B": DATA["A"]}
    np.testing.assert_allclose(value(found, **data), wanted(data["A"], data["A"], data["C"]))


def test_dot_with_a_stack_on_the_right() -> None:
    U = td.tensor("U", 2, 3, 4)
    data = rng.normal(size=(2, 3, 4))
    np.testing.assert_allclose(value(td.dot(A, U), U=data), np.dot(DATA["A"], data))
    np.testing.assert_allclose(value(td.dot(C, U), U=data), np.dot(DATA["C"], data))


def test_logical_functions_of_numbers_that_are_no_truth_values() -> None:
    e = np.logical_xor(X, td.constant([3.0, 0.0, 0.5]))
    np.testing.assert_array_equal(value(e, X=[2.0, 2.0, 0.5]), [False, True, False])


def test_a_basis_vector_in_another_shape_is_summed_along_one_axis() -> None:
    for axis in (0, 1):
        found = td.sum(td.reshape(td.basis(6, 4), (2, 3)), axis=axis).evaluate()
        np.testing.assert_array_equal(found, np.eye(6)[4].reshape(2, 3).sum(axis))
    found = td.sum(td.reshape(td.identity(6)[[4, 1]], (2, 2, 3)), axis=2).evaluate()
    np.testing.assert_array_equal(found, np.eye(6)[[4, 1]].reshape(2, 2, 3).sum(2))


SLICED = [slice(None, None, 2), slice(None, None, 3), slice(1, None, 2), slice(None, None, -1), slice(5, 0, -2),
          slice(2, 5), [4, 1, 1, 6], [0, 3, 6], [2]]  # fmt: skip


@pytest.mark.parametrize("one", SLICED, ids=str)
@pytest.mark.parametrize("other", SLICED, ids=str)
def test_what_two_selections_have_in_common(one: Any, other: Any) -> None:
    I, v = td.identity(7), td.vector("v", 7)
    data = np.arange(1.0, 8)
    wanted = np.eye(7)[one] @ np.eye(7)[other].T
    np.testing.assert_array_equal((I[one] @ I[other].T).evaluate(), wanted)
    found = (I[one] * v) @ I[other].T
    np.testing.assert_array_equal(found.evaluate(v=data), (np.eye(7)[one] * data) @ np.eye(7)[other].T)


def test_exponentials_of_halves_are_one() -> None:
    assert td.simplify(td.exp(X / 2) * td.exp(X / 2)) is td.exp(X)
    assert td.simplify(td.exp(X) * td.exp(X)) is td.exp(X) ** 2


def test_a_primitive_with_maps_alone_has_a_jacobian_and_a_hessian() -> None:
    low = td.tril(td.ones(3, 3))

    @td.primitive(
        shape=lambda shape: shape,
        push=lambda y, place, tangent: td.tensordot(tangent, low, axes=([-1], [1])),
        pull=lambda y, place, adjoint: td.tensordot(adjoint, low, axes=([-1], [0])),
        axes=1,
        name="running_of_three",
    )
    def running(x: Any) -> Any:
        return np.cumsum(x, axis=-1)

    wanted = np.tril(np.ones((3, 3)))
    data = DATA["X"]
    np.testing.assert_allclose(value(td.jacobian(running(td.sin(X)), X)), wanted * np.cos(data))
    v, w = td.vector("v", 3), td.vector("w", 3)
    np.testing.assert_allclose(value(td.jvp(running(X), X, v), v=data), np.cumsum(data))
    np.testing.assert_allclose(value(td.vjp(running(X), X, w), w=data), wanted.T @ data)
    f = td.sum(running(X) ** 3)
    c = np.cumsum(data)
    np.testing.assert_allclose(value(td.hessian(f, X)), wanted.T @ np.diag(6 * c) @ wanted)
    M = td.matrix("M", 2, 3)
    m = rng.normal(size=(2, 3))
    np.testing.assert_allclose(value(td.jacobian(td.sum(running(td.sum(M, axis=0)) ** 2), M), M=m),
                               np.tile(2 * wanted.T @ np.cumsum(m.sum(0)), (2, 1)))  # fmt: skip


def test_the_largest_of_none() -> None:
    for f in (td.max, td.min, td.prod, td.logsumexp):
        with pytest.raises(td.ShapeError, match="which is empty"):
            f(td.vector("E", 0))


def test_an_einsum_without_an_arrow_sorts_its_letters() -> None:
    np.testing.assert_array_equal(value(td.einsum("ba", C)), DATA["C"].T)
    np.testing.assert_allclose(value(td.einsum("cb,ab", A, C)), np.einsum("cb,ab", DATA["A"], DATA["C"]))


def test_a_position_of_matlab_beyond_the_end() -> None:
    for text in ("X(4)", "A(4,1)", "A(1,4)", "A(10)"):
        with pytest.raises(td.ParseError, match="no position"):
            td.parse(text, dialect="matlab", X=(3,), A=(3, 3))


def test_a_row_of_matlab_stays_one() -> None:
    found = td.parse("softmax(X')", dialect="matlab", X=(3,))
    assert found.shape == (1, 3)
    np.testing.assert_allclose(value(found)[0], np.exp(DATA["X"]) / np.exp(DATA["X"]).sum())


def test_an_entry_of_a_list_of_entries() -> None:
    v = td.vector("v", 7)
    data = np.arange(7.0)
    assert float(v[[4, 1, 6]][1].evaluate(v=data)) == 1
    assert v[[4, 1, 6]][[2, 2, 0]].evaluate(v=data).tolist() == [6, 6, 4]
    assert v[1:][[4, 1, 5]][::-1][0].evaluate(v=data) == 6


def test_powers_of_reciprocals() -> None:
    for exponent in (-1, -2, -3, 2):
        np.testing.assert_allclose(value((1 / X) ** exponent), (1 / DATA["X"]) ** exponent)
    assert td.ones(3) == X**0


def test_a_number_fills_its_block() -> None:
    found = value(td.block([[A, 2.0], [C, X[:1]]]))
    wanted = np.block([[DATA["A"], np.full((3, 1), 2.0)], [DATA["C"], np.full((2, 1), DATA["X"][0])]])
    np.testing.assert_array_equal(found, wanted)


def test_the_diagonal_of_a_selection() -> None:
    I = td.identity(4)
    for one in ([1, 0, 2, 3], [3, 3, 2, 1], [0, 1, 1, 3]):
        for other in ([0, 2, 1, 3], [1, 0, 2, 3]):
            p, q = np.eye(4)[one], np.eye(4)[other]
            np.testing.assert_array_equal(
                td.einsum("ii,ij->j", I[one], I[other]).evaluate(), np.einsum("ii,ij->j", p, q)
            )
            np.testing.assert_array_equal(
                td.einsum("ii,ij->ij", I[one], I[other]).evaluate(), np.einsum("ii,ij->ij", p, q)
            )
            np.testing.assert_array_equal(
                td.einsum("ii,ji->ij", I[one], I[other]).evaluate(), np.einsum("ii,ji->ij", p, q)
            )
            assert float(td.trace(I[one] @ I[other]).evaluate()) == np.trace(p @ q)


@pytest.mark.parametrize("output", ["ik", "ikl", "kil"])
def test_a_factor_inside_an_inverse_that_the_output_shows(output: str) -> None:
    k, m = td.dims("k m")
    U, V = td.matrix("U", k, m), td.matrix("V", m, k)
    u, v = rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
    found = td.einsum(f"ij,jk,kl->{output}", td.linalg.inv(U @ V), U, V).evaluate(U=u, V=v)
    np.testing.assert_allclose(found, np.einsum(f"ij,jk,kl->{output}", np.linalg.inv(u @ v), u, v))


def test_scalars_side_by_side_write_their_sums() -> None:
    e = td.stack([X @ X + X[0] * X[1], A[0] @ X])
    assert td.parse(str(e), X=X, A=A) == e
