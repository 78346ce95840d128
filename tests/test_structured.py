"""Structured values: what they hold, their products, their sparse forms, and what can be solved with them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from strategies import DIMS, Case, cases, close

import tensordsl as td

K, M, R = 6, 5, 2
k, m = td.dims("k m")
A, B, C = td.matrix("A", k, k), td.matrix("B", m, m), td.matrix("C", m, m)
x, y, z = td.vector("x", k), td.vector("y", k), td.vector("z", m)
U, V, X = td.matrix("U", k, R), td.matrix("V", k, R), td.matrix("X", k, m)
P, w, D = td.tensor("P", k, m, m), td.vector("w", 7), td.matrix("D", 3, 3)
a = td.scalar("a")
RNG = np.random.default_rng(3)
DATA: dict[Any, Any] = {
    s: RNG.normal(size=[{"k": K, "m": M}.get(str(size), size) for size in s.shape])
    for s in (A, B, C, D, x, y, z, w, U, V, X, P, a)
}
eye = td.identity
J = td.jacobian(A * td.outer(x, x), x)


def factored(e: Any, data: Any = None) -> td.Factored:
    return td.compile(e, output="factored")(DATA if data is None else data, k=K, m=M)


def dense(e: Any) -> np.ndarray:
    return np.asarray(e.evaluate(DATA, k=K, m=M))


# --- what is held -------------------------------------------------------------------------------------------------


def test_the_terms_of_the_flagship() -> None:
    value = factored(J)
    assert (value.shape, value.ndim, value.size, value.dtype) == ((K, K, K), 3, K**3, np.float64)
    assert value.nbytes == 2 * K * K * 8
    first, second = value.terms
    assert {tuple(t.output) for t in value.terms} == {((0,), (1,), (0,)), ((0,), (1,), (1,))}
    np.testing.assert_allclose(
        sum(
            np.einsum("ij,ik->ijk" if t.output[2] == (0,) else "ij,jk->ijk", t.core, np.eye(K)) for t in (first, second)
        ),
        dense(J),
    )
    assert all(t.labels == ((0, 1),) and t.coefficient == 1 and not t.scatter for t in value.terms)


def test_a_repr_says_shape_memory_and_terms() -> None:
    text = repr(factored(J))
    assert "<Factored (6, 6, 6) float64, 576 bytes of 1.69 KiB" in text
    assert "C0[i,j] -> [i,j,i]" in text
    assert "C0[i,k]*C1[j,l] -> [(i j),(k l)]" in repr(factored(td.kron(A, B)))
    assert "2 -> [i,1+i]" in repr(factored(td.jacobian(2 * x[1:], x)))
    assert "C0[i] -> [2,i]" in repr(factored(td.outer(td.basis(4, 2), x)))
    assert "p(i)" in repr(factored(td.duplication(k)))
    assert "\n    0>" in repr(factored(td.zeros(k, m)))
    assert "5*i" not in repr(factored(td.identity(k)))


@pytest.mark.parametrize(
    ("e", "entries"),
    [
        (td.kron(A, B), K * K + M * M),
        (td.outer(x, z), K + M),
        (U @ V.T, 2 * K * R),
        (X @ X.T, K * K),  # no smaller by its factors
        (A + td.outer(x, y), K * K),  # one core, no larger than A
        (td.diag(x) + td.outer(x, y), 3 * K),
        (td.diag(x) + eye(k), K),
        (td.diag(x) + td.diag(y), K),
        (3 * eye(k), 0),
        (td.zeros(k, m), 0),
        (A @ A @ A, K * K),
        (td.kron(eye(k), B) + td.kron(eye(k), C), M * M),
        (td.hessian(td.sum((A - U @ V.T) ** 2), U), R * R),
    ],
)
def test_cores_are_as_small_as_they_can_be(e: Any, entries: int) -> None:
    value = factored(e)
    assert value.nbytes == 8 * entries
    np.testing.assert_allclose(value.todense(), dense(e), atol=1e-12)


def test_terms_add_up_to_the_value() -> None:
    """From what a term holds alone, for every kind of label: δ, ones, groups, scattered slices, several cores."""
    for e in (J, td.kron(A, B) + td.outer(td.vec(X), td.ones(k * m)), td.diag(x) + U @ V.T, 2 * eye(k)):
        value = factored(e)
        total = np.zeros(value.shape)
        for term in value.terms:
            sizes = {
                la: n
                for core, labels in zip(term.cores, term.labels, strict=True)
                for la, n in zip(labels, core.shape, strict=True)
            }
            for group, n in zip(term.output, value.shape, strict=True):
                if len(group) == 1:
                    sizes[group[0]] = n
            operands = [part for pair in zip(term.cores, term.labels, strict=True) for part in pair]
            labels = [label for group in term.output for label in group]
            for place, label in enumerate(labels):  # each axis by a δ of its own
                operands += [np.eye(sizes[label]), (label, 40 + place)]
            entries = np.einsum(*operands, [40 + place for place in range(len(labels))])
            total += float(term.coefficient) * entries.reshape(value.shape)  # type: ignore[arg-type]
        np.testing.assert_allclose(total, dense(e), atol=1e-12)


def test_the_core_of_several() -> None:
    (term,) = factored(td.kron(A, B)).terms
    assert len(term.cores) == 2
    np.testing.assert_allclose(term.core, np.einsum("ik,jl->ijkl", DATA[A], DATA[B]))
    assert factored(eye(k)).terms[0].core is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128, np.int64])
@pytest.mark.parametrize("e", [J, td.jacobian_matrix(A * td.outer(x, x), x), td.kron(A, B), td.diag(x) + 2 * eye(k)])
def test_dtypes_are_those_of_the_data(e: Any, dtype: Any) -> None:
    scale = 1 + 2j if np.dtype(dtype).kind == "c" else 3
    data = {s: (v * scale).astype(dtype) for s, v in DATA.items()}
    value, wanted = factored(e, data), e.evaluate(data)
    assert value.dtype == wanted.dtype == dtype
    for found in (value.todense(), value.T.todense().T):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    right = np.ones(wanted.shape[-1], dtype)
    assert (value @ right).dtype == dtype
    np.testing.assert_allclose(value @ right, wanted.sum(-1), rtol=1e-4, atol=1e-4)
    assert value.tocoo().dtype == dtype
    if value.ndim == 2:
        assert value.tocsr().dtype == dtype
        np.testing.assert_allclose(value.tocsr().toarray(), wanted, rtol=1e-5)


def test_a_wider_array_gives_a_wider_product() -> None:
    value = factored(td.diag(x), {x: np.ones(K, np.float32)})
    assert (value @ np.ones(K)).dtype == np.float64
    assert (value @ np.ones(K, np.int16)).dtype == np.float32
    assert (value @ np.ones(K, complex)).dtype == np.complex128


def test_a_value_does_not_change_with_the_data_it_was_made_from() -> None:
    data = {s: v.copy() for s, v in DATA.items()}
    value, wanted = factored(td.kron(A, B), data), dense(td.kron(A, B))
    data[A][...] = 0
    np.testing.assert_allclose(value.todense(), wanted)


def test_tuples() -> None:
    first, second = td.compile((J, A), output="factored")(DATA)
    np.testing.assert_allclose(first.todense(), dense(J))
    np.testing.assert_allclose(second.todense(), DATA[A])
    (only,) = td.compile((eye(k),), output="factored")(k=3)
    np.testing.assert_allclose(only.todense(), np.eye(3))


# --- products -----------------------------------------------------------------------------------------------------

EXPRESSIONS = {
    "matrix": A,
    "flagship": J,
    "flagship matrix": td.jacobian_matrix(A * td.outer(x, x), x),
    "kron": td.kron(A, X),
    "diagonal and low rank": td.diag(x) + U @ V.T,
    "zero": td.zeros(k, m),
    "ones": td.ones(k, m),
    "slices": td.concatenate([td.diag(x)[1:], td.outer(w[::-3], y), A[::-1]]),
    "vech": td.jacobian(td.vech(A @ A), A),
    "duplication": td.duplication(k),
    "vector": x * y,
    "three places": td.einsum("i->iii", z),
    "commutation": td.commutation(k, m),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_products_from_both_sides(name: str) -> None:
    e = EXPRESSIONS[name]
    value, wanted = factored(e), dense(e)
    for shape in [(), (3,), (3, 2)]:
        right = RNG.normal(size=(wanted.shape[-1], *shape))
        np.testing.assert_allclose(value @ right, np.tensordot(wanted, right, 1), atol=1e-12)
        left = RNG.normal(size=(*shape, wanted.shape[0]))
        np.testing.assert_allclose(left @ value, np.tensordot(left, wanted, 1), atol=1e-12)
    for axes in range(value.ndim + 1):
        right = RNG.normal(size=(*wanted.shape[wanted.ndim - axes :], 3))
        np.testing.assert_allclose(value.tensordot(right, axes), np.tensordot(wanted, right, axes), atol=1e-12)
    np.testing.assert_allclose(value.T.todense(), wanted.T)
    assert value.T.T.shape == value.shape
    out = np.full(wanted.shape, np.nan)
    assert value.todense(out=out) is out
    np.testing.assert_allclose(out, wanted)
    np.testing.assert_allclose(value.todense(out=out), wanted)


def test_a_product_of_low_rank_never_multiplies_its_factors_out() -> None:
    big = {x: np.ones(3000), U: np.ones((3000, R)), V: np.ones((3000, R))}
    value = td.compile(td.diag(x) + U @ V.T, output="factored")(big)
    value @ np.ones(3000)
    tracemalloc.start()
    value @ np.ones(3000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000**2  # of the 8 * 3000**2 bytes of the entries


def test_what_does_not_fit_is_said() -> None:
    value = factored(J)
    with pytest.raises(td.ShapeError, match=r"last axis of shape \(6, 6, 6\) cannot be summed with the first of shape"):
        value @ np.ones(K + 1)
    with pytest.raises(td.ShapeError, match="the array stands on the left"):
        np.ones(K + 1) @ value
    with pytest.raises(td.ShapeError, match="last 2 axes"):
        value.tensordot(np.ones(K), 2)
    with pytest.raises(td.BindError, match=r"out has the shape \(2,\); expected \(6, 6, 6\)"):
        value.todense(out=np.zeros(2))
    with pytest.raises(td.UnsupportedError, match=r"NumPy would need all 216 entries .* value.todense\(\)"):
        np.asarray(value)
    with pytest.raises(td.UnsupportedError, match="cannot stand in an expression"):
        value @ x
    with pytest.raises(td.ShapeError, match=r"tocsr takes a matrix; .* td.jacobian_matrix"):
        value.tocsr()
    with pytest.raises(td.ShapeError, match="scalar has no sparse form"):
        factored(td.sum(x)).tocoo()
    assert float(factored(td.sum(x)).todense()) == pytest.approx(DATA[x].sum())


# --- sparse forms -------------------------------------------------------------------------------------------------


def is_canonical(rows: Any) -> bool:
    """Whether the columns of each row rise: found out anew, whatever the matrix says of itself."""
    return bool(type(rows)((rows.data, rows.indices.copy(), rows.indptr.copy()), rows.shape).has_canonical_format)


@pytest.mark.parametrize("name", [name for name, e in EXPRESSIONS.items() if e.ndim == 2])
def test_rows_are_canonical(name: str) -> None:
    e = EXPRESSIONS[name]
    for value, wanted in ((factored(e), dense(e)), (factored(e).T, dense(e).T)):
        rows = value.tocsr()
        np.testing.assert_allclose(rows.toarray(), wanted)
        assert is_canonical(rows)
        assert rows.indices.dtype == rows.indptr.dtype == np.int32


def test_entries_that_fall_together_are_one() -> None:
    e = td.diag(x) + td.outer(td.basis(k, 0), y) + td.outer(x, td.basis(k, 0)) + eye(k)[::-1] * 2
    rows = factored(e).tocsr()
    assert rows.nnz == len(
        np.unique(
            np.concatenate([np.arange(K) * (K + 1), np.arange(K), np.arange(K) * K, np.arange(K) * (K - 1) + K - 1])
        )
    )
    np.testing.assert_allclose(rows.toarray(), dense(e))
    n = 7
    e = td.jacobian_matrix(td.matrix("S", n, n) * td.outer(td.vector("s", n), td.vector("s", n)), td.vector("s", n))
    assert factored(e, {"S": np.ones((n, n)), "s": np.ones(n)}).tocsr().nnz == 2 * n * n - n


def test_the_pattern_is_found_once() -> None:
    f = td.compile(td.jacobian_matrix(A * td.outer(x, x), x), output="factored")
    first, second = f(DATA).tocsr(), f({**DATA, x: DATA[y]}).tocsr()
    assert np.shares_memory(first.indices, second.indices)
    assert np.shares_memory(first.indptr, second.indptr)
    assert not np.shares_memory(first.data, second.data)
    assert np.max(np.abs((first - second).toarray())) > 0
    with pytest.raises(ValueError, match="read-only"):
        first.indices[0] = 3
    np.testing.assert_allclose((first @ first.T).toarray(), first.toarray() @ first.toarray().T)
    f = td.compile(J, output="sparse")
    assert np.shares_memory(f(DATA).coords[0], f(DATA).coords[0])


def test_large_terms_are_laid_by_tiles_and_threads() -> None:
    n = 600
    data = {A: RNG.normal(size=(n, n)), x: RNG.normal(size=n)}
    rows = td.compile(td.jacobian_matrix(A * td.outer(x, x), x), output="factored")(data).tocsr()
    weights = RNG.normal(size=n)
    wanted = data[A] * np.outer(weights, data[x]) + data[A] * np.outer(data[x], weights)
    np.testing.assert_allclose(rows @ weights, wanted.T.reshape(-1), atol=1e-12)
    assert is_canonical(rows)
    thin = td.compile(td.einsum("ij,kl->(ik)(jl)", td.ones(n, 2), td.matrix("D", n, 3)), output="factored")
    rows = thin(D=np.arange(3.0 * n).reshape(n, 3)).tocsr()
    np.testing.assert_allclose(rows @ np.ones(6), np.tile(2 * (9 * np.arange(n) + 3.0), n))


def test_empty_axes() -> None:
    f = td.compile(td.diag(x) + td.outer(x, y), output="factored")
    value = f(x=np.ones(0), y=np.ones(0))
    assert value.todense().shape == value.tocsr().shape == (0, 0)
    assert value.solve(np.ones((0, 2))).shape == (0, 2)
    assert (value @ np.ones((0, 3))).shape == (0, 3)
    rows = td.compile(td.jacobian(td.vector("v", 4)[2:2], td.vector("v", 4)).T, output="factored")().tocsr()
    assert rows.shape == (4, 0)
    assert rows.nnz == 0


# --- linear systems -----------------------------------------------------------------------------------------------

SOLVABLE = {
    "dense": A,
    "diagonal": td.diag(x),
    "number times identity": 3 * eye(k),
    "diagonal and dense": A + td.diag(x),
    "kron": td.kron(A, B),
    "kron of three": td.kron(td.kron(A, B), C),
    "kron in n axes": td.einsum("ij,kl->ikjl", A, B),
    "identity first": td.kron(eye(k), B),
    "identity last": td.kron(B, eye(k)),
    "identity between": td.kron(td.kron(B, eye(k)), C),
    "terms on one identity": td.kron(eye(k), B) + a * eye(k * m) + td.kron(eye(k), td.diag(z)),
    "diagonal factor": td.kron(B, td.diag(x)),
    "blocks": td.einsum("kij,kl->kilj", P, eye(k)),
    "blocks of two terms": td.einsum("kij,kl->kilj", P, eye(k)) + td.einsum("kl,ij->kilj", td.diag(x), B),
    "block diagonal": td.block_diag(A, B),
    "many blocks": td.block_diag(*[td.matrix("B", m, m) * (n + 1) for n in range(7)]),
    "blocks of many kinds": td.block_diag(A, td.diag(x) + td.outer(x, y), td.identity(3), B, td.kron(B, C)),
    "blocks and a diagonal": td.block_diag(B, B.T, B, C, C, B) + a * eye(6 * m),
    "blocks in a factor": td.kron(td.block_diag(A, B, C, B, B, B), D),
    "rank one": td.diag(x) + td.outer(x, y),
    "low rank": td.diag(x) + U @ V.T,
    "low rank of two terms": td.diag(x) + U @ V.T - 2 * td.outer(y, x),
    "low rank on an identity": td.kron(eye(m), td.diag(x) + td.outer(x, y)),
    "low rank in blocks": td.hessian(td.sum(td.exp(X)) + td.sum(td.sum(X, axis=1) ** 2), X),
    "logsumexp": td.hessian(td.logsumexp(x), x) + eye(k),
    "commutation": td.commutation(k, m),
    "factorisation": td.hessian(td.sum((A - U @ V.T) ** 2), U),
    "elementwise": td.hessian(td.sum(td.exp(X)), X),
}


@pytest.mark.parametrize("name", SOLVABLE)
def test_solve(name: str) -> None:
    e = SOLVABLE[name]
    value, wanted = factored(e), dense(e)
    half = wanted.ndim // 2
    shape = wanted.shape[:half]
    square = wanted.reshape(np.prod(shape), -1)
    for more in [(), (3,), (3, 2)]:
        b = RNG.normal(size=shape + more)
        found = value.solve(b)
        assert found.shape == b.shape
        np.testing.assert_allclose(
            found, np.linalg.solve(square, b.reshape(len(square), -1)).reshape(b.shape), rtol=1e-6
        )


def test_large_systems_are_solved_without_their_entries() -> None:
    n, r = 1500, 4
    big, low, rng = td.vector("big", n), td.matrix("low", n, r), np.random.default_rng(0)
    left, right = td.matrix("left", 60, 60), td.matrix("right", 50, 50)
    data = {
        big: rng.uniform(1, 2, n),
        low: rng.normal(size=(n, r)),
        left: rng.normal(size=(60, 60)),
        right: rng.normal(size=(50, 50)),
    }
    for e in (td.diag(big) + low @ low.T, td.kron(left, right), td.kron(eye(100), left)):
        value = td.compile(e, output="factored")(data)
        solution = rng.normal(size=value.shape[0])
        b = value @ solution
        tracemalloc.start()
        found = value.solve(b)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_allclose(found, solution, rtol=1e-6, atol=1e-8)
        assert peak < value.size  # bytes: an eighth of the dense matrix


@pytest.mark.parametrize("dtype", [np.float32, np.complex128, np.int64])
def test_solve_keeps_the_dtype(dtype: Any) -> None:
    scale = 1 + 2j if np.dtype(dtype).kind == "c" else 7
    data = {
        s: (v * scale).astype(dtype) + (np.eye(len(v)) * 20).astype(dtype) * (v.ndim == 2)
        for s, v in DATA.items()
        if s in (A, B)
    }
    value = factored(td.kron(A, B), data)
    b = np.arange(K * M).astype(dtype)
    found = value.solve(b)
    assert found.dtype == (np.float64 if dtype == np.int64 else dtype)
    np.testing.assert_allclose(found, np.linalg.solve(np.kron(data[A], data[B]), b), rtol=1e-3)


def test_a_newton_step_solves_one_small_system() -> None:
    T, W = td.matrix("T", k, m), td.matrix("W", m, R)
    f = td.sum((T - U @ W.T) ** 2)
    data = {T: RNG.normal(size=(K, M)), U: DATA[U], W: RNG.normal(size=(M, R))}
    hessian = factored(td.hessian(f, U), data)
    assert [core.shape for term in hessian.terms for core in term.cores] == [(R, R)]
    step = hessian.solve(-td.grad(f, U).evaluate(data))
    np.testing.assert_allclose(td.grad(f, U).evaluate({**data, U: data[U] + step}), 0, atol=1e-10)
    np.testing.assert_allclose(hessian.tensordot(step, 2), -td.grad(f, U).evaluate(data), atol=1e-10)


@pytest.mark.parametrize(
    ("e", "data"),
    [
        (td.diag(x), {x: np.array([1.0, 0, 2, 3, 4, 5])}),
        (A, {A: np.zeros((K, K))}),
        (td.kron(eye(m), A), {A: np.ones((K, K))}),
        (td.outer(x, y), DATA),
        (td.zeros(k, k), DATA),
        (td.kron(td.outer(x, y), B), DATA),
        (a * td.kron(A, B), {**DATA, a: 0.0}),
    ],
)
def test_a_singular_value_is_said_in_words(e: Any, data: Any) -> None:
    with pytest.raises(td.BindError, match=r"A matrix that is .*solved with is singular for this data"):
        factored(e, data).solve(np.ones(factored(e, data).shape[0]))


def test_what_structure_does_not_help_with() -> None:
    value = factored(td.kron(A, eye(m)) + td.kron(eye(k), B))
    with pytest.raises(td.UnsupportedError) as caught:
        value.solve(np.ones(K * M))
    text = str(caught.value)
    assert "C0[i,k] -> [(i j),(k j)]" in text or "C1[i,k] -> [(i j),(k j)]" in text
    assert "np.linalg.solve(F.todense(), b)" in text
    with pytest.raises(td.ShapeError, match=r"takes a value of a shape s \+ s, as of a square matrix; this one has"):
        factored(J).solve(np.ones(K))
    with pytest.raises(td.ShapeError, match=r"right side has the shape \(5,\); expected \(6,\)"):
        factored(A).solve(np.ones(M))


@given(cases(2))
def test_a_solution_solves(case: Case) -> None:
    """Whatever the structure, made regular by the identity: a value is solved with, or says that it is not."""
    e, data = case.expression(), case.data
    assume(e.ndim == 2)
    with np.errstate(all="ignore"):
        e = e @ e.T + 2 * td.identity(e.shape[0])
        wanted = np.asarray(e.evaluate(data, **DIMS))
        assume(np.all(np.isfinite(wanted)) and np.max(np.abs(wanted)) < 1e3)
        value = td.compile(e, output="factored")(data, **DIMS)
        b = np.arange(len(wanted)) + 1.0
        try:
            found = value.solve(b)
        except td.UnsupportedError:
            return
        assert close(wanted @ found, b, 1e-6)
