"""What is declared of matrices: what follows from it, and derivatives by symmetric matrices in each convention."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import tensordsl as td
from tensordsl.expr import Expr

k, m = td.dims("k m")
x, y = td.vector("x", k), td.vector("y", k)
X, B, V = td.matrix("X", k, k), td.matrix("B", k, k), td.matrix("V", k, m)
S = td.matrix("S", k, k, symmetric=True)
T = td.matrix("T", k, k, symmetric=True)
P = td.matrix("P", k, k, positive_definite=True)
D = td.matrix("D", k, k, diagonal=True)
Q = td.matrix("Q", k, k, orthogonal=True)
L, U = td.matrix("L", k, k, triangular="lower"), td.matrix("U", k, k, triangular="upper")
p, q = td.vector("p", k, positive=True), td.scalar("q", positive=True)
N = td.matrix("N", k, m, positive=True)
I, linalg = td.identity(k), td.linalg
inv, det = linalg.inv, linalg.det

ONE_OBJECT: dict[str, tuple[Expr, Expr]] = {
    "S.T": (S.T, S),
    "P.T": (P.T, P),
    "D.T": (D.T, D),
    "np.transpose": (np.transpose(S), S),
    "swapaxes": (td.swapaxes(S, 0, 1), S),
    "S + S.T": (S + S.T, 2 * S),
    "S - S.T": (S - S.T, td.zeros(k, k)),
    "the symmetric part": ((S + S.T) / 2, S),
    "inv(S).T": (inv(S).T, inv(S)),
    "inv(P).T": (inv(P).T, inv(P)),
    "exp(S).T": (td.exp(S).T, td.exp(S)),
    "(S * T).T": ((S * T).T, S * T),
    "(S + T).T": ((S + T).T, S + T),
    "(2 S + I).T": ((2 * S + I).T, 2 * S + I),
    "inv(S + T).T": (inv(S + T).T, inv(S + T)),
    "expm(S).T": (linalg.expm(S).T, linalg.expm(S)),
    "diag(x).T": (td.diag(x).T, td.diag(x)),
    "I.T": (I.T, I),
    "(X.T @ X).T": ((X.T @ X).T, X.T @ X),
    "inv(X.T @ X).T": (inv(X.T @ X).T, inv(X.T @ X)),
    "hessian of a form": (td.hessian(x @ S @ x, x), 2 * S),
    "hessian of a definite form": (td.hessian(x @ P @ x / 2, x), P),
    "gradient of a form": (td.simplify(td.grad(x @ S @ x, x)), td.simplify(2 * S @ x)),
    "x @ S and S @ x": (td.simplify(x @ S), td.simplify(S @ x)),
    "sandwich": (td.simplify((X @ S @ X.T).T), td.simplify(X @ S @ X.T)),
    "kron of symmetric": (td.simplify(td.kron(S, P).T), td.simplify(td.kron(S, P))),
    "inv(Q)": (td.simplify(inv(Q)), Q.T),
    "inv(Q) @ Q": (td.simplify(inv(Q) @ Q), I),
    "Q @ Q.T": (td.simplify(Q @ Q.T), I),
    "Q.T @ Q": (td.simplify(Q.T @ Q), I),
    "trace(Q.T X Q)": (td.simplify(td.trace(Q.T @ X @ Q)), td.trace(X)),
    "logdet(Q)": (td.simplify(td.logdet(Q)), td.zeros()),
    "logdet(Q X)": (td.simplify(td.logdet(Q @ X)), td.logdet(X)),
    "det(L)": (td.simplify(det(L)), td.prod(td.diagonal(L))),
    "det(L.T)": (td.simplify(det(L.T)), td.prod(td.diagonal(L))),
    "det(U)": (td.simplify(det(U)), td.prod(td.diagonal(U))),
    "det(D)": (td.simplify(det(D)), td.prod(td.diagonal(D))),
    "logdet(L L.T)": (td.simplify(td.logdet(L @ L.T)), 2 * td.sum(td.log(td.abs(td.diagonal(L))))),
    "D @ x": (td.simplify(D @ x), td.diagonal(D) * x),
    "D @ D": (td.simplify(D @ D), td.simplify(td.diag(td.diagonal(D) ** 2))),
    "inv(D) @ D": (td.simplify(inv(D) @ D), I),
    "the sum of D": (td.simplify(td.sum(D)), td.trace(D)),
    "abs(p)": (td.simplify(td.abs(p)), p),
    "abs(N)": (td.simplify(td.abs(N)), N),
    "log(q p)": (td.simplify(td.log(q * p)), td.simplify(td.log(q) + td.log(p))),
    "sqrt(p**2)": (td.simplify(td.sqrt(p * p)), p),
    "sign(det(P))": (td.simplify(td.sign(det(P))), td.constant(1)),
    "grad of logdet": (td.grad(td.logdet(S), S), inv(S)),
    "grad of x S y": (td.grad(x @ S @ y, S), td.outer(x, y)),
    "differential of a form": (
        td.differential(x @ S @ x, S),
        td.simplify(x @ td.matrix("dS", k, k, symmetric=True) @ x),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_OBJECT)
def test_what_follows(name: str) -> None:
    found, wanted = ONE_OBJECT[name]
    assert found is wanted
    assert found == wanted


@pytest.mark.parametrize(
    ("found", "other"),
    [
        (X.T, X),
        (L.T, L),
        (Q.T, Q),
        (U.T, U),
        (inv(X).T, inv(X)),
        ((S @ T).T, S @ T),
        ((S * X).T, S * X),
        (td.hessian(x @ X @ x, x), 2 * X),
        (td.simplify(inv(X)), X.T),
        (td.simplify(td.abs(x)), x),
        (td.simplify(det(S)), td.prod(td.diagonal(S))),
        (td.simplify(L @ L.T), I),
        (td.grad(td.trace(S @ S), S), td.grad(td.trace(S @ S), S, convention="vech")),
    ],
)
def test_what_does_not_follow(found: Expr, other: Expr) -> None:
    assert found is not other
    assert found != other


def test_what_one_property_says_of_others() -> None:
    assert P.properties == {"positive_definite", "symmetric", "invertible"}
    assert D.properties == {"diagonal", "symmetric", "lower", "upper"}
    assert Q.properties == {"orthogonal", "invertible"}
    assert L.properties == {"lower"}
    assert not X.properties
    assert td.matrix("X", k, k, symmetric=False) is X
    assert td.matrix("S", k, k, symmetric=True) is S
    assert td.matrix("S", k, k) is not S
    assert td.tensor("S", k, k, symmetric=True) is S


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: td.matrix("A", 2, 3, symmetric=True), td.ShapeError, "symmetric.*square"),
        (lambda: td.matrix("A", k, m, positive_definite=True), td.ShapeError, r"\(k, m\).*positive_definite"),
        (lambda: td.matrix("A", 2, 3, orthogonal=True), td.ShapeError, "orthogonal"),
        (lambda: td.matrix("A", 2, 3, diagonal=True), td.ShapeError, "diagonal"),
        (lambda: td.matrix("A", 2, 3, triangular="lower"), td.ShapeError, "lower"),
        (lambda: td.matrix("A", 2, 3, diagonal=True, symmetric=True), td.ShapeError, "diagonal and symmetric"),
        (lambda: td.matrix("A", 2, 2, triangular="left"), td.ShapeError, "'lower' or 'upper'"),
        (lambda: td.tensor("A", 2, 2, 2, symmetric=True), td.ShapeError, "square matrices"),
        (lambda: td.tensor("a", 2, symmetric=True), td.ShapeError, "square matrices"),
        (lambda: td.tensor("A", 2, 2, hermitian=True), td.UnsupportedError, "'hermitian'.*no property.*symmetric"),
        (lambda: td.grad(td.trace(X), X, convention="vech"), td.UnsupportedError, "X was not declared"),
        (lambda: td.grad(td.trace(S), S, convention="half"), td.UnsupportedError, "'half' is unknown.*'vech'"),
        (lambda: td.jacobian(X @ x, X, convention="symmetric"), td.UnsupportedError, "symmetric=True"),
        (lambda: td.hessian(td.trace(X @ X), X, convention="symmetric"), td.UnsupportedError, "symmetric=True"),
    ],
)
def test_errors(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words.replace(".*", "(?s:.*)")):
        make()


def test_a_square_matrix_of_any_entries_may_be_positive() -> None:
    assert td.matrix("N", 2, 3, positive=True).properties == {"positive"}
    assert td.tensor("N", 2, 3, 4, positive=True).properties == {"positive"}


@pytest.mark.parametrize("symbol", [S, P, D, Q, L, U, p, q, N, X], ids=str)
def test_pickles(symbol: Any) -> None:
    """In this process the same object; in another one with the same properties."""
    assert pickle.loads(pickle.dumps(symbol)) is symbol
    e = td.sin(symbol) + symbol
    assert pickle.loads(pickle.dumps(e)) is e


def test_pickles_in_another_process() -> None:
    expressions = [inv(S) @ x + td.exp(P) @ y, inv(Q), td.log(p * q), det(L), D @ x]
    code = (
        "import pickle, sys, tensordsl as td\n"
        "for e in pickle.loads(sys.stdin.buffer.read()):\n"
        "    print(td.simplify(e), *sorted(f'{s.name}:{sorted(s.properties)}' for s in e.symbols))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(expressions), capture_output=True, check=True, timeout=60
    )
    wanted = [
        " ".join([str(td.simplify(e)), *sorted(f"{s.name}:{sorted(s.properties)}" for s in e.symbols)])
        for e in expressions
    ]
    assert found.stdout.decode().splitlines() == wanted


# --- conventions: the derivative by the distinct entries, from plain NumPy ----------------------------------------

rng = np.random.default_rng(7)
_a, _b = rng.normal(size=(2, 3, 3))
DATA = {
    "S": _a @ _a.T / 3 + 2 * np.eye(3),
    "B": _b,
    "x": rng.normal(size=3),
    "y": rng.normal(size=3),
}
FUNCTIONS: dict[str, tuple[Expr, Callable[..., Any]]] = {
    "form": (x @ S @ y, lambda S, B, x, y: x @ S @ y),
    "trace of a product": (td.trace(B @ S), lambda S, B, x, y: np.trace(B @ S)),
    "trace of a square": (td.trace(B @ S @ S), lambda S, B, x, y: np.trace(B @ S @ S)),
    "squares": (td.sum(S * S * B), lambda S, B, x, y: np.sum(S * S * B)),
    "logdet": (td.logdet(S), lambda S, B, x, y: np.linalg.slogdet(S)[1]),
    "det": (det(S), lambda S, B, x, y: np.linalg.det(S)),
    "inverse form": (x @ inv(S) @ y, lambda S, B, x, y: x @ np.linalg.solve(S, y)),
    "gaussian": (
        -td.logdet(S) / 2 - x @ inv(S) @ x / 2,
        lambda S, B, x, y: -np.linalg.slogdet(S)[1] / 2 - x @ np.linalg.solve(S, x) / 2,
    ),
    "exp": (td.sum(td.exp(S) * B), lambda S, B, x, y: np.sum(np.exp(S) * B)),
    "an entry": (td.sin(S[0, 1]), lambda S, B, x, y: np.sin(S[0, 1])),
    "a diagonal": (td.prod(td.diagonal(S)), lambda S, B, x, y: np.prod(np.diag(S))),
    "cube": (td.trace(S @ S @ S @ B), lambda S, B, x, y: np.trace(S @ S @ S @ B)),
}
TENSORS: dict[str, tuple[Expr, Callable[..., Any]]] = {
    "product with a vector": (S @ x, lambda S, B, x, y: S @ x),
    "inverse": (inv(S), lambda S, B, x, y: np.linalg.inv(S)),
    "sandwich": (B @ S @ B.T, lambda S, B, x, y: B @ S @ B.T),
    "entry by entry": (td.exp(S) * B, lambda S, B, x, y: np.exp(S) * B),
    "solve": (linalg.solve(S, y), lambda S, B, x, y: np.linalg.solve(S, y)),
    "itself": (S + 0 * B, lambda S, B, x, y: S),
}
PAIRS = [(i, j) for i in range(3) for j in range(i + 1)]


def richardson(f: Callable[[float], Any], h: float = 1e-2) -> np.ndarray:
    """f'(0) by central differences of three widths."""
    slopes = [np.asarray((f(s * h) - f(-s * h)) / (2 * s * h)) for s in (4, 2, 1)]
    first = [(4 * fine - rough) / 3 for rough, fine in pairwise(slopes)]
    return np.asarray((16 * first[1] - first[0]) / 15)


def unit(i: int, j: int) -> np.ndarray:
    found = np.zeros((3, 3))
    found[i, j] = 1
    return found


def both(i: int, j: int) -> np.ndarray:
    """What the distinct entry i, j of a symmetric matrix moves."""
    return np.maximum(unit(i, j), unit(j, i))


def along(f: Callable[..., Any], direction: np.ndarray, S: np.ndarray) -> np.ndarray:
    return richardson(lambda t: f(**{**DATA, "S": S + t * direction}))


def by_entries(f: Callable[..., Any], S: np.ndarray, convention: str) -> np.ndarray:
    """∂f/∂S in a convention, with the two axes of S at the end. Each from its own definition."""
    shape = np.shape(f(**{**DATA, "S": S}))
    found = np.zeros((*shape, 3, 3))
    if convention == "unconstrained":  # each entry by itself
        for i in range(3):
            for j in range(3):
                found[..., i, j] = along(f, unit(i, j), S)
    elif convention == "vech":  # the distinct entries, S[i,j] and S[j,i] together
        for i, j in PAIRS:
            found[..., i, j] = found[..., j, i] = along(f, both(i, j), S)
    else:  # the gradient in an orthonormal basis of the symmetric matrices
        for i, j in PAIRS:
            element = both(i, j) / np.linalg.norm(both(i, j))
            found += along(f, element, S)[..., None, None] * element
    return found


CONVENTIONS = ("unconstrained", "symmetric", "vech")


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str, convention: str) -> None:
    e, f = FUNCTIONS[name]
    found = td.grad(e, S, convention=convention)
    wanted = by_entries(f, DATA["S"], convention)
    np.testing.assert_allclose(found.evaluate(data_of(found), k=3), wanted, rtol=1e-6, atol=1e-8)


def data_of(e: Expr) -> dict[str, np.ndarray]:
    return {s.name: DATA[s.name] for s in e.symbols}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", TENSORS)
def test_jacobians(name: str, convention: str) -> None:
    e, f = TENSORS[name]
    found = td.jacobian(e, S, convention=convention)
    np.testing.assert_allclose(
        found.evaluate(data_of(found), k=3), by_entries(f, DATA["S"], convention), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessians(name: str, convention: str) -> None:
    """The derivative of the derivative, both in the convention."""
    e, f = FUNCTIONS[name]
    found = td.hessian(e, S, convention=convention)
    assert found.shape == (k, k, k, k)

    def gradient(S: np.ndarray, **_: Any) -> np.ndarray:
        return by_entries(f, S, convention)

    wanted = by_entries(gradient, DATA["S"], convention)
    np.testing.assert_allclose(found.evaluate(data_of(found), k=3), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_mixed_hessians(convention: str) -> None:
    """By S and x: the axes of S alone are joined."""
    e = x @ S @ td.sin(x) + td.trace(B @ S @ S)
    (both_S, mixed), (other, _) = td.hessian(e, (S, x), convention=convention)

    def slope(S: np.ndarray, B: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return S @ np.sin(x) + np.cos(x) * (S.T @ x)

    wanted = by_entries(slope, DATA["S"], convention)
    np.testing.assert_allclose(other.evaluate(data_of(other), k=3), wanted, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(mixed.evaluate(data_of(mixed), k=3), np.moveaxis(wanted, 0, -1), rtol=1e-6, atol=1e-8)
    assert both_S.shape == (k, k, k, k)


def test_conventions_move_the_symmetric_variables_alone() -> None:
    by_S, by_X = td.grad(x @ S @ y + x @ X @ y, (S, X), convention="vech")
    assert by_X == td.outer(x, y)
    assert by_S == td.outer(x, y) + td.outer(y, x) - td.diag(x * y)
    assert td.grad(x @ S @ y, S, convention="symmetric") == (td.outer(x, y) + td.outer(y, x)) / 2


def test_conventions_agree_on_the_differential() -> None:
    """Along a symmetric direction all three say the same: G : dS; by vech the lower triangle alone is counted."""
    direction = both(2, 0) - 2 * both(1, 1) + 3 * both(2, 1)
    for e, f in FUNCTIONS.values():
        wanted = along(f, direction, DATA["S"])
        values = {}
        for c in CONVENTIONS:
            found = td.grad(e, S, convention=c)
            values[c] = found.evaluate(data_of(found), k=3)
        np.testing.assert_allclose(np.sum(values["unconstrained"] * direction), wanted, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(np.sum(values["symmetric"] * direction), wanted, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(np.sum(np.tril(values["vech"] * direction)), wanted, rtol=1e-6, atol=1e-7)
        for c in CONVENTIONS:
            np.testing.assert_allclose(np.diag(values[c]), np.diag(values["symmetric"]), rtol=1e-9)


@pytest.mark.parametrize("symbol", [P, D], ids=str)
def test_what_is_symmetric_by_another_property_has_conventions(symbol: Any) -> None:
    found = td.grad(x @ symbol @ y, symbol, convention="vech")
    assert found == td.outer(x, y) + td.outer(y, x) - td.diag(x * y)


def test_products_with_derivatives_take_a_symmetric_direction() -> None:
    """jvp and vjp vary the entries independently, whatever was declared."""
    W = td.matrix("W", k, k)
    data = {**DATA, "W": rng.normal(size=(3, 3))}
    found = td.jvp(td.logdet(S), S, W)
    wanted = along(lambda S, **_: np.linalg.slogdet(S)[1], data["W"], DATA["S"])
    np.testing.assert_allclose(found.evaluate(S=data["S"], W=data["W"]), wanted, rtol=1e-7)


def test_derivatives_of_declared_matrices_are_those_of_any_matrix() -> None:
    """What is declared does not hold nearby: det(Q) is no constant, and off-diagonal entries of D matter."""
    data = {"Q": np.linalg.qr(_a)[0], "D": np.diag([1.0, 2.0, 4.0]), "L": np.tril(_a) + 3 * np.eye(3)}
    for symbol in (Q, D, L):
        value = data[symbol.name]
        pairs: list[tuple[Expr, Callable[..., Any]]] = [
            (td.logdet(symbol), lambda S, **_: np.linalg.slogdet(S)[1]),
            (td.sum(inv(symbol)), lambda S, **_: np.sum(np.linalg.inv(S))),
            (td.sum(symbol @ symbol), lambda S, **_: np.sum(S @ S)),
        ]
        for e, f in pairs:
            found = td.grad(e, symbol)
            with np.errstate(all="ignore"):
                value_found = found.evaluate({symbol.name: value})
            np.testing.assert_allclose(value_found, by_entries(f, value, "unconstrained"), rtol=1e-6, atol=1e-7)


def test_the_trace_of_a_commutator_of_symmetric_matrices_is_zero() -> None:
    assert td.simplify(td.trace(S @ T - T @ S)) == td.zeros()


def test_sums_that_are_symmetric_in_two_axes_are_collected() -> None:
    """∂²log det(VᵀV) has the sum over both orders of two axes twice."""
    V = td.matrix("V", td.dim("n"), k)
    found = td.hessian(td.logdet(V.T @ V), V)
    assert len(found.children) == 2


# --- the numerical check keeps what was declared -------------------------------------------------------------------

CHECKED = {
    "quadratic form": x @ S @ x, "its inverse": x @ inv(P) @ x, "logdet": td.logdet(S), "inverse": inv(S),
    "root": td.linalg.sqrtm(P), "exponential": td.linalg.expm(S), "Cholesky factor": td.linalg.cholesky(P),
    "eigenvalues": td.linalg.eigvalsh(S), "diagonal": inv(D) @ x, "triangular": td.logdet(L),
    "orthogonal": x @ Q @ S @ Q.T @ x, "inverse of orthogonal": td.trace(inv(Q) @ X),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKED)
def test_the_numerical_check_keeps_what_was_declared(name: str) -> None:
    f = CHECKED[name]
    for symbol in f.symbols:
        assert td.check_derivative(f, symbol) < 1e-7


@pytest.mark.parametrize("symbol", [S, P, D, L, Q], ids=lambda symbol: symbol.name)
def test_the_numerical_check_finds_what_is_wrong_among_them(symbol: td.Expr) -> None:
    f = td.trace(symbol @ symbol @ X)
    wrong = td.grad(f, symbol) + symbol @ X / 100
    with pytest.raises(td.DerivativeError):
        td.check_derivative(f, symbol, derivative=wrong)


def test_the_numerical_check_has_tall_data() -> None:
    tall = td.matrix("W", td.dim("m"), td.dim("b"))
    assert td.check_derivative(inv(tall.T @ tall) @ tall.T @ td.vector("y", td.dim("m")), tall) < 1e-7


def test_a_constant_that_is_not_symmetric() -> None:
    """Orientation is free for symmetric constants alone, and for functions of them entry by entry."""
    C = td.constant(np.array([[1.0, 2, 0], [0, 1, 0], [3, 0, 1]]))
    v = td.vector("v", 3)
    for M in (C, td.exp(C)):
        assert td.simplify(M @ v - v @ M) != td.zeros(3)
        assert td.simplify((M + M.T) @ v - v @ (M + M.T)) == td.zeros(3)
