"""Rewrites: an example of every rule, its conditions, and one normal form whatever the order of the rules."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from strategies import random_case

import tensordsl as td
from tensordsl.expr import Expr
from tensordsl.rewrites import PHASES, Rule, rewrite, rules, simplify
from tensordsl.rewrites.rewriting import by_key

sys.path.append(str(Path(__file__).parent / "identities"))

from table import Identity, load

k, m, n = td.dims("k m n")
SIZES = {"k": 3, "m": 4, "n": 5}
x, y = td.vector("x", k), td.vector("y", k)
p, q = td.vector("p", k, positive=True), td.vector("q", k, positive=True)
a, b = td.scalar("a"), td.scalar("b", positive=True)
V, U = td.matrix("V", k, m), td.matrix("U", m, k)
W = td.matrix("W", m, m)
X, Y, Z = (td.matrix(name, k, k) for name in "XYZ")
S = td.matrix("S", k, k, symmetric=True)
P = td.matrix("P", k, k, positive_definite=True)
D = td.matrix("D", k, k, diagonal=True)
Q = td.matrix("Q", k, k, orthogonal=True)
L, R = td.matrix("L", k, k, triangular="lower"), td.matrix("R", k, k, triangular="upper")
inv, det, norm, adjugate = td.linalg.inv, td.linalg.det, td.linalg.norm, td.linalg.adjugate
expm, sqrtm = td.linalg.expm, td.linalg.sqrtm
I, one = td.identity(k), td.ones(k)
size = td.sum(one)


def data_for(*expressions: Expr) -> dict[str, np.ndarray]:
    """Random data of the kind that each symbol was declared to be; square matrices can be inverted, det(X) > 0."""
    found: dict[str, np.ndarray] = {}
    for symbol in sorted(set().union(*(e.symbols for e in expressions)), key=lambda s: s.name):
        rng = np.random.default_rng(sum(symbol.name.encode()))
        value = rng.normal(size=tuple(SIZES.get(str(extent), extent) for extent in symbol.shape))
        square = value.ndim == 2 and len(set(value.shape)) == 1
        kinds = symbol.properties
        if "positive" in kinds:
            value = np.abs(value) + 0.3
        elif "orthogonal" in kinds:
            value = np.linalg.qr(value)[0]
        elif "positive_definite" in kinds:
            value = value @ value.T + np.eye(len(value))
        elif "diagonal" in kinds:
            value = np.diag(np.diag(value) + 2)
        elif "lower" in kinds or "upper" in kinds:
            value = (np.tril if "lower" in kinds else np.triu)(value) + 3 * np.eye(len(value))
        elif "symmetric" in kinds:
            value = value + value.T + 5 * np.eye(len(value))
        elif square:
            value = value / 2 + 2 * np.eye(len(value))
        found[symbol.name] = value
    return found


def evaluate(e: Expr, data: dict[str, np.ndarray]) -> Any:
    with np.errstate(all="ignore"):
        return e.evaluate({s.name: data[s.name] for s in e.symbols}, **SIZES)


# The name of a rule: what it is applied to, and what comes out when the rules of its phase and before have run.
# What is stated is an expression that no rule is needed to write down.
EXAMPLES: dict[str, list[tuple[Expr, Expr]]] = {
    "powers_of_one_base": [
        (x * x**-1, one),
        (x**-1 * x**-2, x**-3),
        (td.sqrt(x) * td.sqrt(x), x),
        (x / td.sqrt(x), td.sqrt(x)),
        (p**0.25 * p**0.5, p ** Fraction(3, 4)),
        (y * x**5 * x**-5, y),
        (td.einsum("ij,i->ij", V, x) * (1 / V), td.einsum("i,j->ij", x, td.ones(m))),
        (det(X) ** 2 / det(X), det(X)),
    ],
    "size_over_size": [
        (td.sum(one / k), td.constant(1)),
        (td.mean(one), td.constant(1)),
        (size * a * size**-2, a / size),
        (td.sum(V * td.ones(k, m)) * m / td.sum(td.ones(m)), td.sum(V)),
    ],
    "power_of_product": [
        ((2 * x * y) ** -2, x**-2 * y**-2 / 4),
        ((4 * p) ** 2.5, 32 * p ** Fraction(5, 2)),
        (td.sqrt(p**2), p),
        (td.sqrt(p**4), p**2),
        (td.sqrt(p**2 * q**2), p * q),
        (td.sqrt(4 * p * q), 2 * td.sqrt(p) * td.sqrt(q)),
        ((-x) ** -3, -(x**-3)),
        ((x * y) ** 5, x**5 * y**5),
        (1 / (a * td.sum(x * y) / 2), 2 / a / td.sum(x * y)),
        (size / td.sum(td.ones(k) * (x @ y)), 1 / (x @ y)),
    ],
    "power_of_power": [
        (td.sqrt(p) ** -3, p ** Fraction(-3, 2)),
        ((x**5) ** 6, x**30),
        ((p**0.25) ** 2.5, p ** Fraction(5, 8)),
        ((p**-2) ** 0.3, p**-0.6),
        (td.sqrt(x) ** 6, x**3),
        (td.sqrt(td.sqrt(x)), x ** Fraction(1, 4)),
        (1 / td.sqrt(td.sqrt(x)), x ** Fraction(-1, 4)),
        (td.sqrt(p**5), p ** Fraction(5, 2)),
        (td.sqrt(p**-2), p**-1),
        (td.sqrt(p**6), p**3),
    ],
    "power_of_exponential": [
        (td.exp(x) ** -2, td.exp(-2 * x)),
        (td.sqrt(td.exp(x)), td.exp(x / 2)),
        (1 / td.sqrt(td.exp(x)), td.exp(-x / 2)),
        (td.exp(x) ** 0.5, td.exp(x / 2)),
        (td.exp(x) ** 0.3, td.exp(0.3 * x)),
    ],
    "factor_times_itself": [
        (td.linalg.cholesky(X) @ td.linalg.cholesky(X).T, (X + X.T) / 2),
        (x @ td.linalg.cholesky(X) @ td.linalg.cholesky(X).T @ x * a, a * x @ ((X + X.T) / 2) @ x),
        (sqrtm(X) @ sqrtm(X), X),
        (td.trace(sqrtm(X) @ sqrtm(X) @ Y), td.trace(X @ Y)),
    ],
    "duplication_of_elimination": [
        (td.duplication(k) @ td.vech(S), td.ravel(S)),
        (2 * td.vec(X) @ td.duplication(k) @ td.vech(inv(S)) * a, 2 * a * td.sum(X * inv(S))),
    ],
    "sylvester_of_identity": [
        (td.linalg.solve_sylvester(sqrtm(X), sqrtm(X), I), inv(sqrtm(X)) / 2),
        (td.linalg.solve_sylvester(X, X, 3 * a * I), 3 * a * inv(X) / 2),
    ],
    "matrix_around_pseudoinverse": [
        (V @ td.linalg.pinv(V) @ V, V),
        (td.linalg.pinv(V) @ V @ td.linalg.pinv(V), td.linalg.pinv(V)),
        (U @ V @ td.linalg.pinv(V) @ V @ td.ones(m), U @ V @ td.ones(m)),
    ],
    "squares_of_sine_and_cosine": [
        (td.sin(x) ** 2 + td.cos(x) ** 2, one),
        (y - 2 * a * td.sin(x) ** 2 - 2 * a * td.cos(x) ** 2, y - 2 * a * one),
    ],
    "exact_exponent": [
        (p**0.5, td.sqrt(p)),
        (p**-0.5, 1 / td.sqrt(p)),
        (p**0.75, p ** Fraction(3, 4)),
    ],
    "product_of_exponentials": [
        (td.exp(x) * td.exp(y), td.exp(x + y)),
        (td.exp(x) * a * td.exp(-x), a * one),
        (td.exp(x) * td.exp(y) * td.exp(p), td.exp(x + y + p)),
    ],
    "log_of_exponential": [
        (td.log(td.exp(x)), x),
        (td.log(p * q), td.log(p) + td.log(q)),
        (td.log(2 * p), np.log(2) + td.log(p)),
        (td.log(p**-2), -2 * td.log(p)),
        (td.log(td.sqrt(p)), td.log(p) / 2),
        (td.log(p**3), 3 * td.log(p)),
        (td.log(q * td.exp(x)), x + td.log(q)),
    ],
    "exponential_of_log": [
        (td.exp(td.log(x)), x),
        (td.exp(3 * td.log(x)), x**3),
        (td.exp(-td.log(x)), x**-1),
        (td.exp(td.log(x) / 2), x ** Fraction(1, 2)),
    ],
    "of_positive": [
        (td.abs(p), p),
        (td.sign(p), one),
        (td.relu(p), p),
        (td.abs(td.exp(x) + x * x), td.exp(x) + x * x),
        (td.relu(2 * td.sigmoid(x)), 2 * td.sigmoid(x)),
        (td.abs(det(P)), det(P)),
        (td.abs(td.sum(p)), td.sum(p)),
    ],
    "square_of_norm": [
        (norm(x) ** 2, td.sum(x * x)),
        (norm(V) ** 2, td.sum(V * V)),
        (norm(x) ** 3 * a, norm(x) * td.sum(x * x) * a),
    ],
    "truth_squared": [
        ((x > y) * (x > y), x > y),
        ((x > 0) * y * (x > 0) * (x > 0), (x > 0) * y),
    ],
    "sum_that_cancels": [
        (td.sum(x - td.mean(x)), td.zeros()),
        (a * td.sum(x - td.mean(x)), td.zeros()),
        (y * td.sum(V - td.mean(V)), td.zeros(k)),
    ],
    "factors_that_cancel_in_a_sum": [
        (x * (1 - x) * ((1 - y) / (1 - x) - y / x), x - y),
        (x * (p / x - q / x), p - q),
    ],
    "terms_that_cancel": [
        ((1 - y) * x - y * (1 - x), x - y),
        (x * (1 + y) - x * y, x),
    ],
    "symmetric_orientation": [
        (x @ S - S @ x, td.zeros(k)),
        (x @ S @ y + y @ S @ x, 2 * (x @ S @ y)),
        (x @ P + P @ x, 2 * (P @ x)),
        (x @ inv(S) - inv(S) @ x, td.zeros(k)),
    ],
    "inverse_of_inverse": [
        (inv(inv(X)), X),
        (inv(X.T), inv(X).T),
        (inv(expm(X)), expm(-X)),
    ],
    "inverse_of_declared": [
        (inv(Q), Q.T),
        (inv(Q.T), Q),
        (inv(D), simplify(td.diag(1 / td.diagonal(D)))),
    ],
    "inverse_of_product": [
        (inv(X @ Y), inv(Y) @ inv(X)),
        (inv(X @ Y @ Z), inv(Z) @ inv(Y) @ inv(X)),
        (inv(X.T @ Y), inv(Y) @ inv(X).T),
        (inv(td.kron(X, W)), td.kron(inv(X), inv(W))),
        (inv(td.kron(X @ Y, W)), td.kron(inv(Y) @ inv(X), inv(W))),
        (inv(3 * X), inv(X) / 3),
        (inv(a * X), inv(X) / a),
        (inv(td.diag(x)), td.diag(1 / x)),
        (inv(I), I),
    ],
    "determinant_of_product": [
        (det(X @ Y), det(X) * det(Y)),
        (det(X.T), det(X)),
        (det(td.kron(X, W)), det(X) ** td.sum(td.ones(m)) * det(W) ** size),
        (det(3 * td.matrix("T", 2, 2)), 9 * det(td.matrix("T", 2, 2))),
        (det(td.diag(x)), td.prod(x)),
        (td.logdet(X @ Y), td.logdet(X) + td.logdet(Y)),
        (td.logdet(td.kron(X, W)), m * td.logdet(X) + k * td.logdet(W)),
        (td.logdet(-2 * X), td.logdet(X) + k * td.log(td.constant(2))),
        (td.logdet(td.diag(x)), td.sum(td.log(td.abs(x)))),
        (td.logdet(I), td.zeros()),
    ],
    "determinant_of_function": [
        (det(inv(X)), 1 / det(X)),
        (det(expm(X)), td.exp(td.trace(X))),
        (td.logdet(inv(X)), -td.logdet(X)),
        (td.logdet(expm(X)), td.trace(X)),
        (td.logdet(sqrtm(P)), td.logdet(P) / 2),
    ],
    "determinant_of_declared": [
        (det(L), td.prod(td.diagonal(L))),
        (det(R), td.prod(td.diagonal(R))),
        (det(D), td.prod(td.diagonal(D))),
        (td.logdet(L), td.sum(td.log(td.abs(td.diagonal(L))))),
        (td.logdet(Q), td.zeros()),
    ],
    "log_of_determinant": [
        (td.log(td.abs(det(X))), td.logdet(X)),
        (td.log(det(X)), td.logdet(X)),
        (td.log(det(P)), td.logdet(P)),
    ],
    "adjugate_over_determinant": [
        (adjugate(X) / det(X), inv(X)),
        (a * adjugate(X) @ x / det(X), a * inv(X) @ x),
    ],
    "matrix_times_inverse": [
        (inv(X) @ X, I),
        (X @ inv(X), I),
        (inv(X).T @ X.T @ y, y),
        (td.trace(X @ Y @ inv(X)), td.trace(Y)),
        (td.trace(X @ inv(X)), size),
        (inv(X + Y) @ (X + Y), I),
        (inv(U @ V) @ U @ V, td.identity(m)),
        (y @ inv(V @ U) @ V @ U @ x, y @ x),
    ],
    "orthogonal_times_transpose": [
        (Q @ Q.T, I),
        (Q.T @ Q @ x, x),
        (td.trace(Q.T @ X @ Q), td.trace(X)),
        (Q @ X @ Q.T @ Q, Q @ X),
    ],
    "entries_of_diagonal": [
        (D @ x, td.diagonal(D) * x),
        (D @ X, td.diagonal(D)[:, None] * X),
        (td.sum(D), td.trace(D)),
        (D * X, td.diag(td.diagonal(D) * td.diagonal(X))),
    ],
    "log_of_one_more": [
        (td.log(1 + x * x), td.log1p(x * x)),
        (td.log(1 - td.tanh(x)), td.log1p(-td.tanh(x))),
    ],
    "log_of_one_more_exponential": [
        (td.log1p(td.exp(x)), td.softplus(x)),
        (td.log(1 + td.exp(x)), td.softplus(x)),
    ],
    "log_of_sigmoid": [
        (td.log1p(-td.sigmoid(x)), -td.softplus(x)),
        (td.log(1 - td.sigmoid(x)), -td.softplus(x)),
        (td.log(td.sigmoid(x)), -td.softplus(-x)),
        (a * td.log(td.sigmoid(-x)), -a * td.softplus(x)),
    ],
    "one_over_one_and_exponential": [
        (1 / (1 + td.exp(x)), td.sigmoid(-x)),
        (1 / (1 + td.exp(-x)), td.sigmoid(x)),
    ],
    "exponential_times_sigmoid": [
        (td.exp(x) * td.sigmoid(-x), td.sigmoid(x)),
        (td.exp(x) / (1 + td.exp(x)), td.sigmoid(x)),
    ],
    "exponential_less_one": [
        (td.exp(x) - 1, td.expm1(x)),
        (3 - 3 * td.exp(x), -3 * td.expm1(x)),
        (1 - td.sigmoid(x), td.sigmoid(-x)),
        (2 - 2 * td.sigmoid(x), 2 * td.sigmoid(-x)),
    ],
    "log_of_summed_exponential": [
        (td.log(td.sum(td.exp(x))), td.logsumexp(x)),
        (td.log(td.sum(td.exp(V), axis=0)), td.logsumexp(V, axis=0)),
        (td.log(td.sum(td.exp(V), axis=1)), td.logsumexp(V, axis=1)),
        (td.log(td.sum(td.exp(V))), td.logsumexp(V, axis=None)),
    ],
    "exponential_over_sum": [
        (td.exp(x) / td.sum(td.exp(x)), td.softmax(x)),
        (td.exp(V) / td.sum(td.exp(V), axis=1, keepdims=True), td.softmax(V, axis=1)),
        (td.exp(V) / td.sum(td.exp(V), axis=0, keepdims=True), td.softmax(V, axis=0)),
    ],
}  # fmt: skip
ALL_EXAMPLES = [(name, place) for name, examples in EXAMPLES.items() for place in range(len(examples))]


def rule(name: str) -> Rule:
    return next(found for found in rules if found.name == name)


def in_phases(*phases: str) -> list[Rule]:
    return [found for found in rules if found.phase in phases]


def spied(chosen: Sequence[Rule], fired: list[str]) -> list[Rule]:
    """The same rules, which take down the name of each that changes something."""

    def watched(found: Rule) -> Rule:
        def apply(node: Any) -> Expr | None:
            changed = found.apply(node)
            if changed is not None and changed is not node:
                fired.append(found.name)
            return changed

        return found._replace(apply=apply)

    return [watched(found) for found in chosen]


def test_every_rule_has_an_example_and_says_why_it_ends() -> None:
    names = [found.name for found in rules]
    assert len(names) == len(set(names))
    assert set(EXAMPLES) == set(names)
    for found in rules:
        assert "Ends, as" in found.why, found.name
        assert found.phase in PHASES
        assert found.on


@pytest.mark.parametrize(("name", "place"), ALL_EXAMPLES)
def test_examples(name: str, place: int) -> None:
    """The rule fires, and what comes out is the object that was expected."""
    before, after = EXAMPLES[name][place]
    fired: list[str] = []
    phase = rule(name).phase
    chosen = in_phases(phase) if phase != "declared" else in_phases("algebra", "declared")
    (found,) = rewrite([before], by_key(spied(chosen, fired)))
    assert name in fired
    assert found is after
    assert found == after
    if phase != "stable":
        assert simplify(before) is rewrite([after], by_key(in_phases("algebra", "declared")))[0]


@pytest.mark.parametrize(("name", "place"), ALL_EXAMPLES)
def test_examples_keep_their_value(name: str, place: int) -> None:
    """By one rule alone, so that no other mends what it breaks; and by all of its phase."""
    before, after = EXAMPLES[name][place]
    data = data_for(before, after)
    if any(
        named in str(before) for named in ("exp(log", "exp(3*log", "exp(-log", "log(x", "sqrt(x", "exp(log(x[i])/2")
    ):
        data["x"] = np.abs(data["x"])  # both sides are defined there alone
    wanted = evaluate(before, data)
    assert np.all(np.isfinite(wanted))
    (alone,) = rewrite([before], by_key([rule(name)]))
    for found in (after, alone, simplify(before, PHASES)):
        np.testing.assert_allclose(evaluate(found, data), wanted, rtol=1e-9, atol=1e-12)


# --- conditions ---------------------------------------------------------------------------------------------------

x3, y2 = td.matrix("F", 3, 2), td.matrix("G", 2, 3)
UNCHANGED: dict[str, Expr] = {
    "log of a square": td.log(x**2),
    "log of a product": td.log(x * y),
    "log of a product with one positive factor": td.log(x * p),
    "log of a negative multiple": td.log(-2 * p),
    "log of a power": td.log(x**-2),
    "log of a sum of positive numbers": td.log(p + q),
    "log of a product that is summed": td.log(p @ q),
    "root of a square": td.sqrt(x**2),
    "root of an odd power": td.sqrt(x**3),
    "root of a square and another": td.sqrt(p**2 * x**2),
    "root of a squared power": td.sqrt(x**-2),
    "root of a sum of squares": td.sqrt(p @ p),
    "power of a power": (x**6) ** 0.3,
    "third root of a third power": (x**5) ** (1 / 5),
    "power of a product": (x * y) ** 0.3,
    "power of a product with one positive factor": (x * p) ** 0.3,
    "power of a negative multiple": (-2 * p) ** 0.3,
    "power of a product that is summed": (p @ q) ** -2,
    "power of a symbolic exponent": (p * q) ** y,
    "abs": td.abs(x),
    "abs of a square": td.abs(x * x),
    "abs of positive and not": td.abs(x * p),
    "abs of a difference": td.abs(p - q),
    "abs of a determinant": td.abs(det(S)),
    "sign": td.sign(x),
    "sign of a square": td.sign(x**2),
    "sign of relu": td.sign(td.relu(x)),
    "relu": td.relu(x),
    "relu of a negative multiple": td.relu(-p),
    "relu of a diagonal of positive numbers": td.abs(td.diag(p)),
    "inverse of a product of no square factors": inv(x3 @ y2),
    "inverse of a product of symbolic sizes": inv(V @ U),
    "inverse of a sum": inv(X + Y),
    "inverse of an outer product": inv(td.outer(x, y)),
    "inverse of a Hadamard product": inv(X * Y),
    "inverse of a scaled row": inv(X * x),
    "determinant of a product of no square factors": det(x3 @ y2),
    "logdet of a product of no square factors": td.logdet(V @ U),
    "determinant of a kron of no square factors": det(td.kron(V, U)),
    "determinant of a sum": det(X + Y),
    "reciprocal of a diagonal matrix entry by entry": 1 / td.diag(x),
    "determinant of a Hadamard product": det(X * Y),
    "determinant of orthogonal": det(Q),
    "another inverse": inv(X) @ Y,
    "inverse of the transpose": X @ inv(X).T,
    "inverse entry by entry": inv(X) * X,
    "no pseudoinverse": td.linalg.pinv(V) @ V,
    "adjugate over another determinant": adjugate(X) / det(Y),
    "adjugate times the determinant": adjugate(X) * det(X),
    "orthogonal squared": Q @ Q,
    "orthogonal entry by entry": Q * Q,
    "orthogonal of another": Q @ td.matrix("Q2", k, k, orthogonal=True).T,
    "not orthogonal": X @ X.T,
    "transpose of one that is not symmetric": X @ x - x @ X,
    "inverse of triangular": inv(L),
    "exponentials on other axes": td.outer(td.exp(x), td.exp(y)),
    "powers on other axes": td.outer(x, 1 / x),
    "a Cholesky factor and itself": td.linalg.cholesky(X) @ td.linalg.cholesky(X),
    "a Sylvester equation of two matrices": td.linalg.solve_sylvester(X, Y, I),
    "duplication of the lower triangle of X": td.duplication(k) @ td.vech(X),
    "a root and its transpose": sqrtm(X) @ sqrtm(X).T,
    "squares of other angles": td.sin(x) ** 2 + td.cos(y) ** 2,
    "two norms": norm(x) * norm(y),
    "a norm once": norm(x) * a,
    "truths of other data": (x > y) * (y > x),
    "a square of no truth": x * x,
    "sum of no mean": td.sum(x * x - td.mean(x)),
    "other sizes": td.sum(td.ones(m)) / td.sum(one),
    "exp of a product of logs": td.exp(td.log(x) * td.log(y)),
    "exp of a sum of logs along an axis": td.exp(td.sum(td.log(x))),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_nothing_is_done_without_the_condition(name: str) -> None:
    assert simplify(UNCHANGED[name]) is UNCHANGED[name]


UNSTABLE_AS_THEY_ARE: dict[str, Expr] = {
    "log of a sum of other numbers": td.log(2 + x),
    "log of three terms": td.log(1 + x + y),
    "exp less another number": td.exp(x) - 2,
    "exp less a vector": td.exp(x) - y,
    "one over two more": 1 / (2 + td.exp(x)),
    "exp over another sum": td.exp(x) / td.sum(td.exp(y)),
    "exp over the sum on the other axis": td.exp(X) / td.sum(td.exp(X), axis=1),
    "log of a mean of exponentials": td.log(td.mean(td.exp(x))),
    "log of a weighted sum": td.log(td.exp(x) @ y),
    "log of a trace of exponentials": td.log(td.trace(td.exp(X))),
    "exp times sigmoid of the same sign": td.exp(x) * td.sigmoid(x),
}


@pytest.mark.parametrize("name", UNSTABLE_AS_THEY_ARE)
def test_the_stable_forms_keep_to_their_pattern(name: str) -> None:
    e = UNSTABLE_AS_THEY_ARE[name]
    assert simplify(e, ["stable"]) is e


def test_what_is_declared_is_used_in_its_phase_alone() -> None:
    for e in (inv(Q), inv(D), det(L), td.logdet(Q), Q @ Q.T, D @ x, x @ S - S @ x):
        assert simplify(e, ["algebra"]) is e
        assert simplify(e, ["declared"]) is not e
    for e in (td.log(1 + x), td.exp(x) - 1):
        assert simplify(e) is e


# --- one normal form ----------------------------------------------------------------------------------------------


def orders(phases: Sequence[str], count: int) -> list[Any]:
    """The rules as they are, and in random orders."""
    chosen = in_phases(*phases)
    return [by_key(chosen), *(by_key(random.Random(seed).sample(chosen, len(chosen))) for seed in range(count))]


TABLES = {phases: orders(phases, 8) for phases in (("algebra", "declared"), ("stable",), PHASES)}


def check_one_normal_form(e: Expr) -> None:
    for tables in TABLES.values():
        (found,) = rewrite([e], tables[0])
        for table in tables:
            assert rewrite([e], table)[0] is found
            assert rewrite([found], table)[0] is found


@pytest.mark.parametrize(("name", "place"), ALL_EXAMPLES)
def test_confluence_of_the_examples(name: str, place: int) -> None:
    check_one_normal_form(EXAMPLES[name][place][0])


@pytest.mark.parametrize("name", UNCHANGED)
def test_confluence_of_what_does_not_change(name: str) -> None:
    check_one_normal_form(UNCHANGED[name])


IDENTITIES = [entry for entry in load() if not entry.missing()]


@pytest.mark.parametrize("entry", IDENTITIES, ids=lambda entry: entry.name)
def test_confluence_of_the_published_identities(entry: Identity) -> None:
    left = entry.lhs()
    check_one_normal_form(left)
    check_one_normal_form(entry.derive(left))


@pytest.mark.parametrize("seed", range(150))
def test_confluence_of_random_cases(seed: int) -> None:
    check_one_normal_form(random_case(seed).expression())


class Drawn(NamedTuple):
    """Draws expressions made of the left sides of the rules: a thousand times likelier to meet two that clash."""

    rng: random.Random

    def vector(self, depth: int) -> Expr:
        if depth <= 0:
            return self.rng.choice([x, y, p, q])
        v, s, g = self.vector, self.scalar, self.matrix
        ways: list[Callable[[], Expr]] = [
            lambda: v(depth - 1) * v(depth - 1),
            lambda: v(depth - 1) + v(depth - 1),
            lambda: v(depth - 1) ** self.rng.choice([-1, -2, -3, 2, 5, 0.5, -0.5, 1.5]),
            lambda: td.exp(v(depth - 1)) * td.exp(v(depth - 1)),
            lambda: td.log(v(depth - 1)),
            lambda: td.sqrt(v(depth - 1)),
            lambda: td.abs(v(depth - 1)),
            lambda: 1 - v(depth - 1),
            lambda: td.log(1 + td.exp(v(depth - 1))),
            lambda: td.exp(v(depth - 1)) / (1 + td.exp(v(depth - 1))),
            lambda: td.sigmoid(v(depth - 1)) * s(depth - 1),
            lambda: v(depth - 1) - td.mean(v(depth - 1)),
            lambda: (v(depth - 1) > v(depth - 1)) * v(depth - 1),
            lambda: g(depth - 1) @ v(depth - 1),
            lambda: v(depth - 1) @ g(depth - 1),
        ]
        return self.rng.choice(ways)()

    def matrix(self, depth: int) -> Expr:
        if depth <= 0:
            return self.rng.choice([X, Y, S, P, D, Q, L, X.T, Q.T])
        g = self.matrix
        ways: list[Callable[[], Expr]] = [
            lambda: g(depth - 1) @ g(depth - 1),
            lambda: inv(g(depth - 1)),
            lambda: g(depth - 1).T,
            lambda: g(depth - 1) * self.scalar(depth - 1),
            lambda: g(depth - 1) - g(depth - 1),
            lambda: inv(g(depth - 1)) @ g(depth - 1),
            lambda: td.diag(self.vector(depth - 1)),
            lambda: adjugate(g(depth - 1)) / det(g(depth - 1)),
        ]
        return self.rng.choice(ways)()

    def scalar(self, depth: int) -> Expr:
        v, g = self.vector, self.matrix
        ways: list[Callable[[], Expr]] = [
            lambda: td.sum(v(depth - 1)),
            lambda: det(g(depth - 1)),
            lambda: td.logdet(g(depth - 1)),
            lambda: norm(v(depth - 1)) ** 2,
            lambda: td.log(td.sum(td.exp(v(depth - 1)))),
            lambda: td.trace(g(depth - 1)),
            lambda: v(depth - 1) @ g(depth - 1) @ v(depth - 1),
        ]
        return self.rng.choice(ways)()


def drawn(seed: int) -> Expr:
    rng = random.Random(seed)
    source = Drawn(rng)
    try:
        return rng.choice([source.vector, source.matrix, source.scalar])(rng.choice([2, 2, 3]))
    except td.UnsupportedError:  # a number out of a domain: 1/0
        return x


def test_confluence_where_rules_meet() -> None:
    """Rules against each other."""
    clashes = []
    for seed in range(600):
        e = drawn(seed)
        text = str(e)
        results = {rewrite([e], table)[0] for table in TABLES["algebra", "declared"]}
        results |= {rewrite([found], TABLES["algebra", "declared"][0])[0] for found in results}
        if len(results) > 1:
            clashes.append((text, *map(str, results)))
    assert clashes == []


def test_values_where_rules_meet() -> None:
    compared = 0
    for seed in range(250):
        e = drawn(seed)
        data = data_for(e)
        try:
            wanted, found = (np.asarray(evaluate(side, data)) for side in (e, simplify(e, PHASES)))
        except td.BindError:  # a matrix that has no inverse, a division by zero
            continue
        clear = np.isfinite(wanted) & (np.abs(wanted) < 1e6)
        compared += clear.any()
        np.testing.assert_allclose(found[clear], wanted[clear], rtol=1e-7, atol=1e-7, err_msg=str(e))
    assert compared > 150


MEETINGS = {
    "symmetric times inverse": (inv(S) @ S, I),
    "positive definite times inverse": (P @ inv(P), I),
    "the trace of that": (td.trace(S @ inv(S)), size),
    "and a vector": (inv(S) @ S @ x, x),
    "a transposed diagonal in a sum": ((D - X).T, D - X.T),
    "adjugate, determinant, its reciprocal": (adjugate(X) * det(X) / det(X), adjugate(X)),
    "a Cholesky factor and its transpose": (td.linalg.cholesky(P) @ td.linalg.cholesky(P).T, P),
    "a column of differences": (
        (x[:, None] - X @ y[:, None]).T @ (x[:, None] - X @ y[:, None]),
        ((x - X @ y) @ (x - X @ y))[None, None],
    ),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_confluence_of_two_rules(name: str) -> None:
    before, after = MEETINGS[name]
    check_one_normal_form(before)
    assert simplify(before) is simplify(after)


@pytest.mark.parametrize("exponent", [np.inf, -np.inf, np.nan])
def test_an_exponent_that_is_not_finite(exponent: float) -> None:
    simplify(x**exponent * y)


def test_an_entry_is_rewritten_once_however_often_it_is_used() -> None:
    """A tower in which each floor uses the one below twice: 2**60 paths, 60 nodes."""
    e = td.exp(td.log(p))
    for _ in range(60):
        e = td.sin(e) * td.cos(e)
    fired: list[str] = []
    rewrite([e], by_key(spied(in_phases("algebra", "declared"), fired)))
    assert fired == ["exponential_of_log"]


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    e = p
    for _ in range(3000):
        e = td.log1p(td.abs(e + 1))
    assert td.abs(p + 1) is not td.simplify(e)


# --- stability ----------------------------------------------------------------------------------------------------

big = np.array([1000.0, 999.0, -1000.0])
tail = np.log1p(np.exp(-1.0))
STABLE: dict[str, tuple[Expr, dict[str, Any], Any]] = {
    "logsumexp": (td.log(td.sum(td.exp(x))), {"x": big}, 1000 + tail),
    "logsumexp far below": (td.log(td.sum(td.exp(x))), {"x": -big - 2000}, -1000 + np.log1p(np.exp(-1999.0))),
    "softmax": (td.exp(x) / td.sum(td.exp(x)), {"x": big}, np.exp([-tail, -1 - tail, -np.inf])),
    "softmax of rows": (
        td.exp(V) / td.sum(td.exp(V), axis=1, keepdims=True),
        {"V": np.stack([big, big - 3000])},
        np.exp([[-tail, -1 - tail, -np.inf]] * 2),
    ),
    "log of softmax": (
        td.log(td.exp(x) / td.sum(td.exp(x))),
        {"x": big[:2]},
        [-tail, -1 - tail],
    ),
    "softplus": (td.log(1 + td.exp(x)), {"x": big}, [1000.0, 999.0, 0.0]),
    "log of sigmoid": (td.log(td.sigmoid(x)), {"x": np.array([-800.0, 800.0])}, [-800.0, 0.0]),
    "log of a sigmoid written out": (td.log(1 / (1 + td.exp(-x))), {"x": np.array([-800.0, 800.0])}, [-800.0, 0.0]),
    "log of one less sigmoid": (td.log(1 - td.sigmoid(x)), {"x": np.array([-800.0, 800.0])}, [0.0, -800.0]),
    "sigmoid as exp over one and exp": (td.exp(x) / (1 + td.exp(x)), {"x": big}, [1.0, 1.0, 0.0]),
    "cross entropy": (
        -td.sum(y * td.log(td.sigmoid(x)) + (1 - y) * td.log(1 - td.sigmoid(x))),
        {"x": np.array([800.0, -800.0]), "y": np.array([0.0, 0.0])},
        800.0,
    ),
    "log1p": (td.log(1 + x), {"x": np.array([1e-18, -1e-17, 1e-9])}, np.log1p([1e-18, -1e-17, 1e-9])),
    "expm1": (td.exp(x) - 1, {"x": np.array([1e-18, -1e-17, 1e-9])}, np.expm1([1e-18, -1e-17, 1e-9])),
    "exp of a log of a product": (td.log(p * q), {"p": np.array([1e200, 1e-200]), "q": np.array([1e200, 1e-200])},
                                  [400 * np.log(10), -400 * np.log(10)]),
}  # fmt: skip


@pytest.mark.parametrize("name", STABLE)
def test_stability(name: str) -> None:
    e, data, wanted = STABLE[name]
    with np.errstate(over="ignore"):
        found = e.evaluate(data)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(td.compile(e)(**data), wanted, rtol=1e-12, atol=1e-300)


def test_the_log_of_a_determinant_that_overflows() -> None:
    A = td.matrix("A", n, n)
    value = np.random.default_rng(0).normal(size=(400, 400)) * 10
    value[0] *= np.linalg.slogdet(value)[0]
    with np.errstate(over="ignore"):
        assert np.isinf(np.linalg.det(value))
    found = td.log(det(A)).evaluate(A=value)
    np.testing.assert_allclose(found, np.linalg.slogdet(value)[1], rtol=1e-12)
    small = value * 1e-5
    assert np.linalg.det(small) == 0
    np.testing.assert_allclose(td.log(det(A)).evaluate(A=small), np.linalg.slogdet(small)[1], rtol=1e-12)
    gradient = td.grad(td.log(det(A)), A).evaluate(A=value)
    np.testing.assert_allclose(gradient, np.linalg.inv(value).T, rtol=1e-6, atol=1e-9)


def test_stable_forms_of_derivatives() -> None:
    """A derivative keeps what its function had: no inf/inf."""
    with np.errstate(over="ignore"):
        gradient = td.grad(td.log(td.sum(td.exp(x))), x)
        np.testing.assert_allclose(gradient.evaluate(x=big), np.exp([-tail, -1 - tail, -np.inf]), atol=1e-300)
        loss = td.sum(td.log(1 + td.exp(-y * x)))
        found = td.grad(loss, x).evaluate(x=np.array([800.0, -800.0]), y=np.ones(2))
        np.testing.assert_allclose(found, [0.0, -1.0], atol=1e-300)


def test_the_stable_form_of_a_second_derivative() -> None:
    s = np.exp([-tail, -1 - tail])
    for f in (td.logsumexp(x), td.log(td.sum(td.exp(x)))):
        with np.errstate(all="ignore"):
            found = td.hessian(f, x).evaluate(x=big[:2])
        np.testing.assert_allclose(found, np.diag(s) - np.outer(s, s), rtol=1e-12)
        with np.errstate(all="ignore"):
            found = td.hessian(td.sum(td.log(1 + td.exp(x))), x).evaluate(x=np.array([-1000.0, 0, 1000]))
        np.testing.assert_allclose(found, np.diag([0, 0.25, 0]))


def test_the_reciprocal_of_a_diagonal_is_of_the_diagonal_alone() -> None:
    data = {"D": np.diag([1.0, 2.0, 4.0]), "X": np.diag([1.0, 2.0, 4.0]), "x": np.ones(3)}
    for e in (inv(D) @ x, 1 / td.diagonal(X), td.diagonal(td.grad(td.sum(td.log(td.diagonal(X))), X))):
        with np.errstate(all="raise"):
            np.testing.assert_allclose(evaluate(e, data), [1, 0.5, 0.25])
        assert td.plan(e, k=100).flops < 1000


def test_a_power_has_one_exponent() -> None:
    assert simplify(p**0.75) is simplify(p**0.25 * p**0.5)
    assert simplify(td.sqrt(p)) is simplify(p**0.5)


def test_the_power_of_a_product_has_no_coefficient_of_one() -> None:
    assert simplify((p * q) ** 0.3) is p**0.3 * q**0.3
