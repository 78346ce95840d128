"""Joining: what is structure stays labels, and equal things become one object."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import DIMS, Case, cases, close

import tensordsl as td
from tensordsl.contraction import is_structured, is_zero
from tensordsl.expr import Contraction, Sum

k, m, n, r = td.dims("k m n r")
x, y, z = td.vector("x", k), td.vector("y", k), td.vector("z", m)
A, B, X = td.matrix("A", k, m), td.matrix("B", n, r), td.matrix("X", r, m)
S = td.matrix("S", k, k)
I = td.identity(k)

ONE_OBJECT = {
    "kron @ vec": (td.kron(A, B) @ td.vec(X), td.vec(B @ X @ A.T)),
    "unvec of vec": (td.unvec(td.vec(A), (k, m)), A),
    "vec of unvec": (td.vec(td.unvec(td.vector("v", k * m), (k, m))), td.vector("v", k * m)),
    "mixed product": (td.kron(A, B) @ td.kron(A.T, B.T), td.kron(A @ A.T, B @ B.T)),
    "transpose of kron": (td.kron(A, B).T, td.kron(A.T, B.T)),
    "kron is associative": (td.kron(td.kron(A, B), S), td.kron(A, td.kron(B, S))),
    "trace of kron": (td.trace(td.kron(S, td.identity(m))), m * td.trace(S)),
    "vec of outer": (td.vec(td.outer(x, z)), td.kron(z, x)),
    "a column of khatri_rao": (td.khatri_rao(A, A)[:, 0], td.einsum("ij,kj,j->(ik)", A, A, td.basis(m, 0))),
    "identity kron identity": (td.kron(I, td.identity(m)), td.identity(k * m)),
    "identity @": (I @ A, A),
    "identity twice": (I @ I, I),
    "identity entry by entry": (I * I, I),
    "diagonal of diag": (td.diagonal(td.diag(x)), x),
    "diag @ diag": (td.diag(x) @ td.diag(y), td.diag(x * y)),
    "diag times a matrix": (td.diag(x) @ S, x[:, None] * S),
    "identity masks": (S * I, td.diag(td.diagonal(S))),
    "trace of a product": (td.trace(A @ A.T), td.sum(A * A)),
    "trace is cyclic": (td.trace(A @ A.T @ S), td.trace(S @ A @ A.T)),
    "ones are sums": (td.ones(k) @ A, td.sum(A, axis=0)),
    "sum of ones": (td.sum(td.ones(2, 3)), td.constant(6)),
    "transposed twice": (A.T.T, A),
    "transposed product": ((A.T @ S).T, S.T @ A),
    "products commute": (x * y, y * x),
    "sums commute": (x + y, y + x),
    "sums collect": (x + y + x - y, 2 * x),
    "differences vanish": (x - x, td.zeros(k)),
    "fractions are exact": (x / 3 + x / 6, x / 2),
    "powers are products": (x**3, x * x * x),
    "numbers move out": ((2 * x) * (3 * y), 6 * (x * y)),
    "slices of slices": (td.vector("v", 9)[1:][::2][::-1], td.vector("v", 9)[7::-2]),
    "whole slices": (A[:, :], A),
    "an entry of a slice": (td.vector("v", 9)[2:][3], td.vector("v", 9)[5]),
    "an entry of the identity": (I[0, 1], td.basis(k, 0)[1]),
    "a basis vector selects": (td.basis(k, 1) @ S, S[1]),
    "delta merges": (td.diag(x) + td.diag(y), td.diag(x + y)),
    "einsum is matmul": (td.einsum("ij,jk->ik", A.T, S), A.T @ S),
    "np.outer": (np.outer(x, y), td.outer(x, y)),
    "np.einsum": (np.einsum("ij,i->j", A, x), x @ A),
    "np.exp": (np.exp(x), td.exp(x)),
    "an array on the left": (np.array([[1.0, 2.0]]) * td.vector("v", 2), td.vector("v", 2) * np.array([[1.0, 2.0]])),
    "broadcasting is a label": ((x[:, None] + z) - z, x[:, None] + td.zeros(k, m)),
    "squeezing an axis of one": (td.sum(A, axis=0, keepdims=True)[0], td.sum(A, axis=0)),
}


@pytest.mark.parametrize("name", ONE_OBJECT)
def test_one_object(name: str) -> None:
    left, right = ONE_OBJECT[name]
    assert left is right
    assert left == right


def test_structures_merge_so_that_sums_stay_short() -> None:
    total = td.diag(x) + td.identity(k) + 2 * td.diag(y) + td.diag(td.exp(x))
    assert isinstance(total, Contraction)
    J = td.jacobian(x * td.sum(x * y) + td.sin(x) + x * x, x)
    assert isinstance(J, Sum)
    assert len(J.terms) == 2  # a diagonal, and x yᵀ


def test_the_flagship_is_two_terms_of_two_factors() -> None:
    J = td.jacobian(S * td.outer(x, x), x)
    assert isinstance(J, Sum)
    assert [len(term.children) for term in J.terms] == [2, 2]
    assert is_structured(J)
    assert sorted(term.output for term in J.terms) == [((0,), (1,), (0,)), ((0,), (1,), (1,))]


@pytest.mark.parametrize(
    "found",
    [
        td.zeros(k) * x,
        x * 0,
        0 * td.exp(x),
        td.zeros(k, k) @ x,
        td.sum(td.zeros(k, m)),
        td.kron(td.zeros(k, m), B),
        td.outer(x, td.zeros(m)),
        td.jacobian(y, x),
        td.jacobian(x > y, x),
        td.diag(td.zeros(k)),
        td.vec(td.zeros(k, m)),
        x @ (y - y),
        td.trace(S - S),
    ],
    ids=lambda e: str(e.shape),
)
def test_zero_stays_zero(found: td.Expr) -> None:
    assert is_zero(found)
    assert not found.symbols


def test_structure_costs_nothing_to_hold() -> None:
    """None of these is ever an array: they are labels, at any size."""
    huge = 10**9
    v = td.vector("v", huge)
    for node in (
        td.identity(huge),
        td.ones(huge, huge),
        td.kron(td.identity(huge), td.outer(v, v)),
        td.diag(v),
        td.basis(huge, 7),
        td.outer(v, v) + td.identity(huge),
    ):
        assert node.symbols <= {v}


def test_a_shared_product_stays_shared() -> None:
    """A contraction used twice in one product is one factor twice, not its factors twice."""
    product = S @ td.exp(S)
    assert list((product * product).children) == [product, product]


@given(cases(2), st.data())
def test_equal_by_another_way_is_equal(case: Case, data: st.DataObject) -> None:
    """Algebra that changes no value gives the same value, and undone, the same object."""
    e = case.expression()
    order = tuple(data.draw(st.permutations(range(e.ndim))))
    back = tuple(sorted(range(e.ndim), key=order.__getitem__))
    assert td.transpose(td.transpose(e, order), back) is e if e.ndim else e.T is e
    assert td.negative(td.negative(e)) is e
    assert e + e is 2 * e
    assert is_zero(e - e)
    if e.ndim:
        assert td.unvec(td.vec(e), e.shape) is e
        assert e[...] is e
        assert td.sum(e) is td.sum(td.vec(e))


@given(cases(2), cases(2))
def test_sums_and_products_commute(a: Case, b: Case) -> None:
    p, q = a.expression(), b.expression()
    names = {s.name: s for s in p.symbols}
    assume(all(names.get(s.name, s) is s for s in q.symbols))
    outer = td.einsum(f"{'abcd'[: p.ndim]},{'efgh'[: q.ndim]}->{'abcd'[: p.ndim]}{'efgh'[: q.ndim]}", p, q)
    other = td.einsum(f"{'efgh'[: q.ndim]},{'abcd'[: p.ndim]}->{'abcd'[: p.ndim]}{'efgh'[: q.ndim]}", q, p)
    assert outer is other
    if p.shape == q.shape:
        assert p + q is q + p
        assert p * q is q * p


@given(cases(3))
def test_values(case: Case) -> None:
    """The heart of it: any expression evaluates to what NumPy computes."""
    data = case.data
    with np.errstate(all="ignore"):
        wanted = np.asarray(case.oracle(data))
        assume(np.all(np.isfinite(wanted)))
        found = case.expression().evaluate(data, **DIMS)
    assert np.shape(found) == wanted.shape
    assert close(found, wanted)


def test_a_sum_of_many_deltas_stays_structured() -> None:
    """However it is put together: a contraction of it never makes the array that is nearly all zeros."""
    k = td.dim("k")
    x, v = td.vector("x", k), td.vector("v", k)
    patterns = [
        "aaabc",
        "aabac",
        "abaac",
        "baaac",
        "aabca",
        "abaca",
        "baaca",
        "abcaa",
        "bacaa",
        "bcaaa",
        "aaaab",
        "aaaba",
    ]
    total = td.zeros(k, k, k, k, k)
    for pattern in patterns:
        total = total + td.einsum("a->" + pattern, x, **dict.fromkeys(set(pattern) - {"a"}, k))
    together = td.einsum("abcde,e->abcd", total, v)
    assert max(td.plan(together, k=20).peak_bytes, 1) < 8 * 20**5 / 2
    data = {"x": np.arange(1.0, 4), "v": np.array([1.0, -2, 0.5])}
    np.testing.assert_allclose(together.evaluate(data), total.evaluate(data) @ data["v"])
