"""Every operator against JAX: values, and derivatives of the first, second and third order, in every mode."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from oracle import DIMS, FLAGS, SYMBOLS, expression, names_in, the_data, the_symbols, truth
from strategies import close

import tensordsl as td

pytestmark = pytest.mark.slow

# A text, with the names of tensordsl, or two, where `jax.numpy` has another word for it (`oracle.helpers`).
# In a single text `td.` stands for `np.` as well. Letters are symbols of `oracle.SYMBOLS`.
ENTRIES: list[Any] = [
    # entry by entry
    "x + u * a - 2", "td.add(A, x)", "td.subtract(x, A)", "td.multiply(A, x)", "td.divide(A, q)",
    "td.negative(A * x)", ("td.hadamard(A, B)", "A * B"), "x / (1 + q) / 3", "A / J + 1 / p", "-x * 2 + x * a * a",
    "(3 * x - 1.5) ** 3", "p**q", "p**-1.5", "2**x", "x**2 / a**3", "td.power(p, q)", "td.power(x, 3)",
    "td.power(p, a)", "td.power(A, 2) * x", "td.square(x) * u", "td.reciprocal(p) * x", "td.sqrt(p * q)",
    "td.exp(x * u)", "td.expm1(x / 3)", "td.log(p * q)", "td.log1p(p)", "td.sin(x * a)", "td.cos(x * u)", "td.tan(t)",
    "td.arcsin(t)", "td.arccos(t)", "td.arctan(x * u)", "td.arctan2(x, A)", "td.arctan2(u * a, x)",
    "td.arcsinh(x * u)", "td.arccosh(2 + x * x)", "td.arctanh(t)", "td.sinh(x * a)", "td.cosh(x)", "td.tanh(x * u)",
    "td.abs(x * u)", "abs(A * x)", "td.sign(x) * u * u", ("td.sigmoid(x * u)", "sigmoid(x * u)"),
    ("td.softplus(3 * x)", "softplus(3 * x)"), ("td.relu(x * u)", "relu(x * u)"), ("td.erf(x)", "erf(x)"),
    ("td.lgamma(p)", "lgamma(p)"), ("td.digamma(p)", "digamma(p)"), ("td.polygamma(1, p)", "polygamma(1, p)"),
    ("td.polygamma(0, p) + td.polygamma(2, q)", "digamma(p) + polygamma(2, q)"),
    # choices
    ("td.sign(td.identity(m)) * G", "np.eye(m) * G"),
    ("td.exp((x > 0) * td.ones(m)) * u", "np.exp((x > 0) * np.ones(m)) * u"),
    "td.maximum(x, u)", "td.minimum(A, x)", "td.maximum(x * x, 0.5)", "td.clip(x, -0.7, 0.8) * u",
    "td.clip(x, None, 0.1)", "td.clip(A, -1, x)", "td.where(x > 0, x * x, u / 2)", "td.where(A < x, A * A, x)",
    "td.where(td.not_equal(x, 0), x**3, 1)", "td.where(td.greater(x, u), x * u, x)",
    "td.where(td.less(x, u), x * u, x)", "td.greater_equal(x, u) * x * u", "td.less_equal(x, u) * x * x",
    "td.equal(x, x) * x * u", "td.where(x >= u, td.sin(x), u * u)", "td.where(x <= 0.2, x**3, td.exp(u))",
    # sums and other reductions
    "td.sum(A * B)", "td.sum(A**3, axis=0)", "td.sum(T * x[:, None], axis=(0, -1))",
    "td.sum(A * x, axis=1, keepdims=True)", "td.sum(A * A, keepdims=True)", "(A * A).sum(axis=-1)", "td.mean(A**2)",
    "td.mean(A**2, axis=0)", "td.mean(T * T, axis=(-1, 0), keepdims=True)", "(x * x).mean()", "td.var(x * u)",
    "td.var(A, axis=0)", "td.var(A, axis=-1, ddof=1, keepdims=True)", "td.var(T, axis=(0, 2))", "td.std(x)",
    "td.std(A, axis=1, ddof=1)", "td.std(A, axis=0, keepdims=True)", "td.std(A)", "td.prod(x)", "td.prod(A, axis=0)",
    "td.prod(A, axis=-1, keepdims=True)", "td.prod(W)", "td.prod(A * x, axis=(0, 1))",
    ("td.prod_others(x)", "prod_others(x)"), ("td.prod_others(A)", "prod_others(A)"), "td.max(x * u)",
    "td.max(A, axis=0) ** 2", "td.max(A * x, axis=-1, keepdims=True)", "td.max(T, axis=(0, 2)) * x", "td.min(x * u)",
    "td.min(A, axis=0) ** 2", "td.min(A * x, axis=(0, 1), keepdims=True)", "A.max(axis=1) * A.min(axis=1)",
    ("td.logsumexp(x * u)", "logsumexp(x * u)"), ("td.logsumexp(A)", "logsumexp(A, axis=-1)"),
    ("td.logsumexp(A, axis=0, keepdims=True)", "logsumexp(A, axis=0, keepdims=True)"),
    ("td.logsumexp(A * x, axis=None)", "logsumexp(A * x)"),
    ("td.logsumexp(T, axis=(0, 1))", "logsumexp(T, axis=(0, 1))"), ("td.softmax(x)", "softmax(x)"),
    ("td.softmax(A * x)", "softmax(A * x, axis=-1)"), ("td.softmax(A, axis=0)", "softmax(A, axis=0)"),
    ("td.softmax(A, axis=(0, 1))", "softmax(A, axis=(0, 1))"),
    # products
    "A @ x", "x @ C", "x @ u", "A @ C", "T @ z", "A @ td.transpose(U, (0, 2, 1))", "td.matmul(A, C)",
    "td.matmul(x, T)", "E @ T[..., 1]", "F @ A * a", "td.outer(x, y)", "td.outer(A, y)", "td.inner(A, x)",
    "td.inner(A, G)", "td.inner(a, y)", "td.inner(T, z)", "td.dot(x, u)", "td.dot(A, C)", "td.dot(A, x)",
    "td.dot(U, C)", "td.dot(a, A)", "td.vdot(A, B)", "td.vdot(x, u)", ("td.frobenius(A, B)", "frobenius(A, B)"),
    "td.kron(A, D)", "td.kron(x, y)", "td.kron(A, y)", "td.kron(x, E)", "td.kron(a, A)", "td.tensordot(T, C, 2)",
    "td.tensordot(T, A, axes=([0, 1], [0, 1]))", "td.tensordot(A, y, axes=([0], [0]))", "td.tensordot(x, y, 0)",
    "td.einsum('ij,j->ij', A, x)", "td.einsum('ij,jk,k->i', A, C, z)", "td.einsum('ijk,j->ki', T, x)",
    "td.einsum('ii->', E)", "td.einsum('ii,i->i', E, y)", ("td.einsum('i->ii', x)", "np.diag(x)"),
    ("td.einsum('ij->(ji)', A)", "vec(A)"), ("td.einsum('i,j->(ij)', x, y)", "np.kron(x, y)"),
    ("td.khatri_rao(A, C.T)", "khatri_rao(A, C.T)"), "td.cross(W, W[0] ** 2)",
    "td.cross(H[..., 0], H[..., 1] * W[0])", "td.trace(S)", "td.trace(td.exp(E) @ E)",
    "td.trace(F.transpose((0, 2, 1)))", "td.diagonal(E)", "td.diagonal(td.transpose(F, (0, 2, 1)))", "td.diag(x)",
    "td.diag(E)", "td.diag(x * x) @ C", ("td.commutation(k, m) @ td.vec(A)", "commutation(k, m) @ vec(A)"),
    ("td.vech(G)", "vech(G)"), ("td.elimination(m) @ td.vec(G * G)", "elimination(m) @ vec(G * G)"),
    ("td.duplication(k) @ td.vech(E)", "duplication(2) @ vech(E)"), ("td.vech_rows(m) @ x", "vech_rows(m) @ x"),
    ("td.vech_columns(m) @ x", "vech_columns(m) @ x"), "x[np.array([0, 2, 2])] * W[0]", "A[:, np.array([2, 0, 1, 0])]",
    ("(C * C)[[1, 1, 0]]", "(C * C)[np.array([1, 1, 0])]"), ("C.T[[-1, 0]] * x", "C.T[np.array([-1, 0])] * x"),
    # axes and blocks
    ("td.vec(A)", "vec(A)"), ("td.vec(T)", "vec(T)"),
    ("td.unvec(td.exp(td.vec(A)), (m, k))", "unvec(np.exp(vec(A)), (m, k))"),
    ("td.unvec(td.kron(x, y), (k, m))", "np.outer(y, x)"), "A.T * y", "U.T", "td.transpose(T, (1, 2, 0))",
    "td.transpose(A)", "td.swapaxes(T, 0, -1)", "td.moveaxis(T, 0, -1)", "td.moveaxis(T, 2, 0)",
    "td.moveaxis(T, (0, 1), (2, 0))",
    "td.reshape(A * A, (m, k))", "td.reshape(T, (m * k, 4))", "td.reshape(A, -1)", "td.reshape(A, (m, k), order='F')",
    "td.ravel(A)", "td.ravel(A, order='F')", "td.expand_dims(x, 1) * y", "td.expand_dims(A, (0, 2))",
    "td.squeeze(O) * x", "td.squeeze(V, axis=-1)", ("td.broadcast(x, (k, m)) * A", "x * A"), "td.concatenate([x, y])",
    "td.concatenate([A, L.T * x], axis=0)", "td.concatenate([C, O * O, L], axis=-1)",
    "td.concatenate([A, B * B], axis=1)[:, m:] @ td.concatenate([y, x])[k:]", "td.stack([x, u])",
    "td.stack([A, B * B], axis=1)", "td.stack([A, B], axis=-1)", "td.stack([a, b, a * b])",
    "td.block([[A, E], [G, L]])", "td.block([[A], [G]])", "td.block([A, E])",
    ("td.block_diag(A, G * G)", "block_diag(A, G * G)"), ("td.block_diag(E, O)", "block_diag(E, O)"), "td.tril(G)",
    "td.tril(A, 1)", "td.tril(F, -1)", "td.triu(G) @ x", "td.triu(A, 1)", "td.triu(G, -1)", "x[::-1] * u", "A[1] * x",
    "C[:, ::2]", "A[:, None] * x[:, None]", "T[1, ..., 0]", "T[:, 1:, ::-2]", "C[-1, 1:3]", "x[1:] * x[:-1]",
    # constants beside symbols
    ("td.constant([1.0, 2.0, 4.0]) * W", "np.array([1.0, 2.0, 4.0]) * W"), ("td.identity(m) * x", "np.eye(m) * x"),
    ("td.ones(k, m) * x + td.zeros(m)", "np.ones((k, m)) * x"), ("td.basis(m, 1) * x @ u", "x[1] * u[1]"),
    ("td.zeros(k, m) + A", "A"),
    # linear algebra
    "td.linalg.inv(S)", "td.linalg.inv(R) @ A", "td.linalg.inv(M)", "td.linalg.det(S)", "td.linalg.det(R) * a",
    "td.linalg.det(M)", ("td.logdet(S)", "logdet(S)"), ("td.logdet(M)", "logdet(M)"),
    ("td.logdet(P) * a", "logdet(P) * a"), "td.linalg.slogdet(S)[0] * x", "td.linalg.slogdet(R)[1] * x",
    "td.linalg.solve(S, x)", "td.linalg.solve(S, L)", ("td.linalg.solve(M, D.T)", "np.linalg.inv(M) @ D.T"),
    ("td.linalg.solve(R, T[:, 0])", "np.linalg.inv(R) @ T[:, 0]"), "td.linalg.matrix_power(R, 3)",
    "td.linalg.matrix_power(S, 2) @ x", "td.linalg.matrix_power(R, -2)",
    "td.linalg.matrix_power(M, 2)", "td.linalg.matrix_power(R / 3, 7)",
    "td.linalg.matrix_power(E, 0) + E", ("td.linalg.adjugate(R)", "adjugate(R)"),
    ("td.linalg.adjugate(S)", "adjugate(S)"), ("td.linalg.adjugate(M)", "adjugate(M)"), "td.linalg.pinv(L)",
    "td.linalg.pinv(A)", "td.linalg.pinv(R)", "td.linalg.pinv(T[..., 0]) @ y", "td.linalg.cholesky(Q)",
    "td.linalg.cholesky(P) @ x", "td.linalg.cholesky(N)", "td.linalg.eigvalsh(Q)", "td.linalg.eigvalsh(P)",
    "td.linalg.eigvalsh(N)", "td.linalg.eigvalsh(G)", "td.linalg.eigh(P)[0] * x",
    # the sign of an eigenvector is anyone's choice: its square, and what it projects to, are not
    "td.linalg.eigh(Q)[1] ** 2", ("td.linalg.eigenvectors(Q)**2", "np.linalg.eigh(Q)[1] ** 2"),
    ("td.linalg.eigenvectors(P)**2 @ x", "np.linalg.eigh(P)[1] ** 2 @ x"),
    ("td.linalg.eigenvectors(P) * x @ td.linalg.eigenvectors(P).T",
     "np.linalg.eigh(P)[1] * x @ np.linalg.eigh(P)[1].T"),
    ("td.linalg.eigenvectors(N)**2", "np.linalg.eigh(N)[1] ** 2"), ("td.linalg.expm(E)", "expm(E)"),
    ("td.linalg.expm(G) @ x", "expm(G) @ x"), ("td.linalg.expm(M / 4)", "expm(M / 4)"),
    ("td.linalg.sqrtm(R)", "sqrtm(R)"), ("td.linalg.sqrtm(P)", "sqrtm(P)"), ("td.linalg.sqrtm(N)", "sqrtm(N)"),
    ("td.linalg.solve_sylvester(S, R, L)", "solve_sylvester(S, R, L)"),
    ("td.linalg.solve_sylvester(R, R.T, E)", "solve_sylvester(R, R.T, E)"),
    ("td.linalg.solve_sylvester(M, Q, M)", "solve_sylvester(M, np.broadcast_to(Q, (4, k, k)), M)"),
    ("td.linalg.polar(L)", "polar(L)"), ("td.linalg.polar(R)", "polar(R)"), ("td.linalg.polar(M)", "polar(M)"),
    ("td.linalg.polar(W)", "polar(W.T).T"), ("td.linalg.polar(A)", "polar(A.T).T"),
    "td.linalg.norm(x)", "td.linalg.norm(A)", "td.linalg.norm(T)", "td.linalg.norm(a)", "td.linalg.norm(x, 1)",
    "td.linalg.norm(x, np.inf)", "td.linalg.norm(x, -np.inf)", "td.linalg.norm(x, 3)", "td.linalg.norm(p, 2.5)",
    "td.linalg.norm(x, 0) * x", "td.linalg.norm(A, axis=0)", "td.linalg.norm(A, 1, axis=1, keepdims=True)",
    "td.linalg.norm(A, 3, axis=-1)", "td.linalg.norm(A, 'fro')",
    "td.linalg.norm(A, 'nuc')",
    "td.linalg.norm(L, 'nuc')", "td.linalg.norm(A, 2)", "td.linalg.norm(L, 2)", "td.linalg.norm(A, 1)",
    "td.linalg.norm(A, -1)", "td.linalg.norm(A, np.inf)", "td.linalg.norm(A, -np.inf)",
    "td.linalg.norm(T, axis=(0, 1))", "td.linalg.norm(T, 2, axis=(0, 1))", "td.linalg.norm(T, 'nuc', axis=(2, 0))",
    "td.linalg.norm(W, 'nuc')", "td.linalg.norm(A, keepdims=True)",
    "td.linalg.norm(T, 1, axis=(0, 2), keepdims=True)",
    # index notation
    ("(A[i_, j_] * x[j_]).tensor(i_)", "A @ x"), ("(A[i_, j_] * x[j_] * x[j_]).tensor(j_, i_)", "(A * x * x).T"),
    ("(td.exp(G[i_, j_]) * x[i_] + u[i_] / 2).tensor(i_)", "np.exp(G).sum(1) * x + u / 2"),
    ("td.sin(td.sum(A[i_, j_] * x[j_], over=j_)).tensor(i_)", "np.sin(A @ x)"),
    ("(E[i_, i_] * A[i_, 0]).tensor(i_)", "np.diagonal(E) * A[:, 0]"),
    # together
    "td.sum((A * td.outer(y, x))[0] * x)",
    ("td.sum(td.log(1 + td.exp(-u * (G @ x))))", "np.log1p(np.exp(-u * (G @ x))).sum()"),
    ("td.logdet(S) + x @ td.linalg.solve(S, u)", "logdet(S) + x @ np.linalg.solve(S, u)"),
    ("td.sigmoid(A @ td.tanh(G @ x))", "sigmoid(A @ np.tanh(G @ x))"),
    ("td.softmax(A @ x) @ td.log(td.softmax(y))", "softmax(A @ x) @ np.log(softmax(y))"),
]  # fmt: skip

# Declared names that are no operators: they declare, differentiate, run or read, and have tests of their own.
NO_OPERATORS = {
    "BindError", "DerivativeError", "Dim", "Expr", "Factored", "ParseError", "PlanError", "ShapeError", "Size",
    "TensorDSLError", "UnsupportedError", "check_derivative", "compile", "derivative", "differential", "dim", "dims",
    "elementwise", "explain", "grad",
    "primitive", "trace_function",
    "hessian", "hvp", "indices", "jacobian", "jacobian_matrix", "jvp", "linalg", "matrix", "open", "parse", "plan",
    "scalar", "simplify", "store", "tensor", "vector", "vjp",
}  # fmt: skip


def both(entry: Any) -> tuple[str, str]:
    """The text in tensordsl and that in NumPy's names."""
    entry = entry.values[0] if hasattr(entry, "values") else entry
    return entry if isinstance(entry, tuple) else (entry, entry.replace("td.", "np."))


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: both(entry)[0])
def test_operator(entry: str | tuple[str, str]) -> None:
    ours, theirs = both(entry)
    names = names_in(ours)
    data = the_data(names)
    wanted = truth(theirs, names, data, weights)
    F, symbols = expression(ours, names), tuple(the_symbols(names).values())
    n = wanted.jacobian.shape[-1]
    w = weights(wanted.value.shape)
    v = np.random.default_rng(2).normal(size=n)
    ends = np.cumsum([data[name].size for name in names])[:-1]
    directions = {f"d{s}": part.reshape(data[s].shape) for s, part in zip(names, np.split(v, ends), strict=True)}
    point = {**data, "w_": w, **directions}

    def value(e: Any) -> np.ndarray:
        return np.asarray(e.evaluate(point, **DIMS))

    def flat(parts: Any, leading: int) -> np.ndarray:
        """Derivatives by each symbol, laid into one last axis as JAX's are."""
        return np.concatenate([value(e).reshape(*value(e).shape[:leading], -1) for e in parts], axis=-1)

    adjoint = td.tensor("w_", *F.shape)
    along = tuple(td.tensor(f"d{s}", *symbol.shape) for s, symbol in zip(names, symbols, strict=True))
    f = td.sum(adjoint * F)
    assert close(value(F), wanted.value, 1e-11)
    assert close(flat(td.jacobian(F, symbols), F.ndim), wanted.jacobian, 1e-10)
    assert close(value(td.jvp(F, symbols, along)), wanted.jacobian @ v, 1e-10)
    assert close(flat(td.vjp(F, symbols, adjoint), 0), np.tensordot(w, wanted.jacobian, w.ndim), 1e-10)
    assert close(flat(td.hvp(f, symbols, along), 0), wanted.hessian @ v, 1e-9)
    rows = td.hessian(f, symbols)
    for symbol, row, part in zip(symbols, rows, np.split(wanted.hessian, ends), strict=True):
        found = flat(row, symbol.ndim)
        assert close(found, part.reshape(found.shape), 1e-9), symbol
    if wanted.third is not None:
        for place, (name, symbol) in enumerate(zip(names, symbols, strict=True)):
            parts = wanted.third
            for axis in range(3):
                parts = np.split(parts, ends, axis)[place]
            assert close(value(td.derivative(f, symbol, order=3)), parts.reshape(3 * data[name].shape), 1e-8), symbol


DECLARED = [entry for entry in ENTRIES if {SYMBOLS[name][1] for name in names_in(both(entry)[0])} & set(FLAGS)]


@pytest.mark.parametrize(
    "entry",
    DECLARED,
    ids=lambda entry: both(entry)[0],
)
def test_declared_symbols(entry: Any) -> None:
    """What is declared of a symbol holds at the data, and its entries are varied independently all the same."""
    ours, theirs = both(entry)
    names = names_in(ours)
    data = the_data(names)
    wanted = truth(theirs, names, data, weights)
    F, symbols = expression(ours, names, True), the_symbols(names, True)
    point = {**data, "w_": weights(wanted.value.shape)}
    ends = np.cumsum([value.size for value in data.values()])[:-1]
    assert close(F.evaluate(point, **DIMS), wanted.value, 1e-11)
    parts = zip(np.split(wanted.jacobian, ends, axis=-1), np.split(wanted.hessian, ends), symbols.items(), strict=True)
    f = td.sum(td.tensor("w_", *F.shape) * F)
    for place, (first, second, (name, symbol)) in enumerate(parts):
        shape = data[name].shape
        assert close(td.jacobian(F, symbol).evaluate(point, **DIMS), first.reshape(wanted.value.shape + shape), 1e-10)
        own = np.split(second, ends, axis=1)[place].reshape(shape + shape)
        assert close(td.hessian(f, symbol).evaluate(point, **DIMS), own, 1e-9)


def test_every_operator_has_an_entry() -> None:
    """What `td` declares is in the table above, or among what is no operator; a new operator is in neither."""
    declared = {name for name in td.__all__ if not isinstance(getattr(td, name), ModuleType)} - NO_OPERATORS
    declared |= {f"linalg.{name}" for name in vars(td.linalg)}
    entered = {name for entry in ENTRIES for name in re.findall(r"\btd\.((?:linalg\.)?\w+)", both(entry)[0])}
    assert declared - entered == set()
    assert entered - declared == set()


# --- where JAX is no judge: ties, kinks and singular matrices, by hand ---------------------------------------------

x, y = td.vector("x", 4), td.vector("y", 4)


@pytest.mark.parametrize(
    ("e", "slopes"),
    [
        (td.maximum(x, y), [0.5, 0, 1, 0.5]),
        (td.minimum(x, y), [0.5, 1, 0, 0.5]),
        (td.maximum(y, x), [0.5, 0, 1, 0.5]),
        (td.maximum(x, 0), [0.5, 0, 1, 0.5]),
        (td.clip(x, 0, 2), [0.5, 0, 0.5, 0.5]),
        (td.relu(x), [0, 0, 1, 0]),
        (td.abs(x), [0, -1, 1, 0]),
        (td.sign(x), [0, 0, 0, 0]),
        (td.where(x > y, x, 3 * x), [3, 3, 1, 3]),
        (td.where(x >= y, x, 3 * x), [1, 3, 1, 1]),
        (td.where(td.equal(x, y), x, 3 * x), [1, 3, 3, 1]),
    ],
    ids=lambda value: str(value) if isinstance(value, td.Expr) else "",
)
def test_ties_and_kinks(e: Any, slopes: list[float]) -> None:
    data = {"x": np.array([0.0, -1.5, 2.0, 0.0]), "y": np.array([0.0, 1.0, -1.0, 0.0])}
    np.testing.assert_array_equal(td.jacobian(e, x).evaluate(data), np.diag(slopes))
    ones = td.jvp(e, x, td.ones(4)), td.vjp(e, x, td.ones(4))
    np.testing.assert_array_equal([f.evaluate(data) for f in ones], [slopes, slopes])


def test_ties_of_a_largest_entry_have_equal_parts() -> None:
    data = {"x": np.array([2.0, -1.0, 2.0, -1.0])}
    np.testing.assert_array_equal(td.grad(td.max(x), x).evaluate(data), [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(td.grad(td.min(x), x).evaluate(data), [0, 0.5, 0, 0.5])
    np.testing.assert_array_equal(td.grad(td.linalg.norm(x, np.inf), x).evaluate(data), [0.5, 0, 0.5, 0])


@pytest.mark.parametrize("zeros", [[], [1], [0, 2], [0, 1, 3]])
def test_products_with_zeros(zeros: list[int]) -> None:
    """All three orders, where a quotient by an entry is none; JAX is wrong here for some."""
    point = np.array([2.0, -3.0, 5.0, 0.5])
    point[zeros] = 0

    def without(*gone: int) -> float:
        return 0.0 if len(set(gone)) < len(gone) else float(np.prod(np.delete(point, gone)))

    for order in (1, 2, 3):
        wanted = [without(*places) for places in np.ndindex((4,) * order)]
        found = td.derivative(td.prod(x), x, order=order).evaluate(x=point)
        np.testing.assert_allclose(found, np.reshape(wanted, (4,) * order), atol=1e-14)


SINGULAR = {
    "rank two": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
    "a zero row": [[1.0, 2.0, -1.0], [0.0, 0.0, 0.0], [3.0, 1.0, 5.0]],
    "rank one": [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [-1.0, -2.0, -3.0]],
    "zero": [[0.0] * 3] * 3,
}


@pytest.mark.parametrize("name", SINGULAR)
def test_the_determinant_of_singular_matrices(name: str) -> None:
    """Value and derivative are polynomials of the entries, and stay so where there is no inverse."""
    (a, b, c), (d, e, f), (g, h, i) = SINGULAR[name]
    cofactors = np.array(
        [
            [e * i - f * h, f * g - d * i, d * h - e * g],
            [c * h - b * i, a * i - c * g, b * g - a * h],
            [b * f - c * e, c * d - a * f, a * e - b * d],
        ]
    )
    G, V = td.matrix("G", 3, 3), np.arange(9.0).reshape(3, 3) ** 2
    data = {"G": np.array(SINGULAR[name]), "V": V, "w": np.array(2.0)}
    det = td.linalg.det(G)
    assert abs(det.evaluate(data)) < 1e-13
    np.testing.assert_allclose(td.grad(det, G).evaluate(data), cofactors, atol=1e-12)
    np.testing.assert_allclose(td.linalg.adjugate(G).evaluate(data), cofactors.T, atol=1e-12)
    np.testing.assert_allclose(td.jvp(det, G, td.matrix("V", 3, 3)).evaluate(data), np.sum(cofactors * V), atol=1e-11)
    np.testing.assert_allclose(td.vjp(det, G, td.scalar("w")).evaluate(data), 2 * cofactors, atol=1e-12)
