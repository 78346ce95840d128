"""Texts as a mathematician would write them: models of statistics and learning, blocks, cross products, every form."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
from identities.table import Identity, load

import tensordsl as td

k, m, n, r = td.dims("k m n r")
SIZES = {"k": 4, "m": 3, "n": 2, "r": 5}
a, b = td.scalar("a"), td.scalar("b")
x, u, mu, y = td.vector("x", k), td.vector("u", k), td.vector("mu", k), td.vector("y", m)
c, d = td.vector("c", 3), td.vector("d", 3)
A, B, C = td.matrix("A", k, k), td.matrix("B", m, k), td.matrix("C", k, n)
S, P = td.matrix("S", k, k, symmetric=True), td.matrix("P", k, k, positive_definite=True)
T, U, V, X = td.matrix("T", m, n), td.matrix("U", m, r), td.matrix("V", n, r), td.matrix("X", m, n)


def data(expression: td.Expr) -> dict[str, np.ndarray]:
    """Positive data for each symbol, symmetric and definite where it is declared."""
    rng = np.random.default_rng(8)
    found = {}
    for symbol in sorted(expression.symbols, key=lambda s: s.name):
        shape = tuple(size if isinstance(size, int) else SIZES[str(size)] for size in symbol.shape)
        values = rng.uniform(0.5, 1.5, shape)
        found[symbol.name] = values @ values.T if symbol.properties else values
    return found


def reads_back(expression: td.Expr, text: str, dialect: str) -> None:
    """The text parses back to an equal value, axes of size one aside."""
    known = {symbol.name: symbol for symbol in expression.symbols}
    found = td.parse(text, dialect=dialect, **known).evaluate(data(expression), **SIZES)
    wanted = expression.evaluate(data(expression), **SIZES)
    np.testing.assert_allclose(np.squeeze(found), np.squeeze(wanted), rtol=1e-10, atol=1e-12)


def check(expression: td.Expr, index: str = "", matrix: str = "", latex: str = "") -> None:
    """The texts are these, where they are given, and all of them parse back."""
    texts = expression.to_string(), expression.to_string("matrix"), expression.to_latex("matrix")
    for found, wanted, dialect in zip(texts, (index, matrix, latex), ("numpy", "matrix", "latex"), strict=True):
        assert not wanted or found == wanted
        reads_back(expression, found, dialect)


# --- models -------------------------------------------------------------------------------------------------------

RESIDUAL = T - U @ V.T
GAUSS = -(x - mu) @ td.linalg.inv(P) @ (x - mu) / 2 - td.logdet(P) / 2
MODELS = {  # gradients: function, symbol, index text, matrix text, differential
    "quadratic form": (
        x @ A @ x, x, "(A[i,j] + A[j,i])*x[j] -> [i]", "(A + Aᵀ) @ x", "xᵀ @ (A + Aᵀ) @ dx",
    ),
    "Rayleigh quotient": (
        (x @ A @ x) / (x @ x), x, "", "((A + Aᵀ) @ x - 2 * (xᵀ @ A @ x) * x/(xᵀ @ x))/(xᵀ @ x)",
        "(((A + Aᵀ) @ x - 2 * (xᵀ @ A @ x) * x/(xᵀ @ x))ᵀ @ dx)/(xᵀ @ x)",
    ),
    "least squares": (
        (B @ x - y) @ (B @ x - y), x, "2*B[j,i]*(sum[k](B[j,k]*x[k]) - y[j]) -> [i]", "2 * Bᵀ @ (B @ x - y)",
        "2 * (B @ x - y)ᵀ @ B @ dx",
    ),
    "ridge": ((B @ x - y) @ (B @ x - y) + a * (x @ x), x, "", "2 * (a*x + Bᵀ @ (B @ x - y))", ""),
    "matrix factorisation": (
        td.sum(RESIDUAL**2), U, "2*V[k,j]*(sum[l](U[i,l]*V[k,l]) - T[i,k]) -> [i,j]", "2 * (U @ Vᵀ - T) @ V", "",
    ),
    "Gauss by its mean": (
        GAUSS, mu, "inv(P)[i,j]*(x[j] - mu[j]) -> [i]", "inv(P) @ (x - mu)", "(x - mu)ᵀ @ inv(P) @ dmu",
    ),
    "Gauss by its covariance": (GAUSS, P, "", "(inv(P) @ (x - mu) @ (x - mu)ᵀ @ inv(P) - inv(P))/2", ""),
    "log-sum-exp": (td.logsumexp(x), x, "softmax(x)[i] -> [i]", "softmax(x)", "softmax(x)ᵀ @ dx"),
    "relative entropy": (td.sum(u * td.log(u / x)), x, "-u[i]/x[i] -> [i]", "-u/x", "-(u/x)ᵀ @ dx"),
    "risk": (
        td.sqrt(x @ S @ x), x, "S[i,j]*x[j]/sqrt(sum[k,l](S[k,l]*x[k]*x[l])) -> [i]", "(S @ x)/sqrt(xᵀ @ S @ x)", "",
    ),
    "cosine": (
        (x @ u) / (td.linalg.norm(x) * td.linalg.norm(u)), x, "", "(u - (uᵀ @ x) * x/norm(x)**2)/(norm(u)*norm(x))", "",
    ),
    "variance": (td.var(x), x, "2*(x[i] - sum[j](x[j])/k)/k -> [i]", "2*(x - mean(x))/k", ""),
    "trace of a product": (td.trace(A.T @ S @ A), A, "2*A[k,j]*S[i,k] -> [i,j]", "2 * S @ A", ""),
    "nuclear norm": (td.linalg.norm(X, ord="nuc"), X, "", "polar(X)", "trace(polar(X)ᵀ @ dX)"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_models(name: str) -> None:
    function, symbol, index, matrix, differential = MODELS[name]
    check(td.grad(function, symbol), index, matrix)
    if differential:
        check(td.differential(function, symbol), matrix=differential)


@pytest.mark.parametrize(
    ("function", "matrix"),
    [
        (td.logsumexp(x), "diag(softmax(x)) - softmax(x) @ softmax(x)ᵀ"),
        (td.sqrt(x @ S @ x), "(S - (S @ x @ xᵀ @ S)/(xᵀ @ S @ x))/sqrt(xᵀ @ S @ x)"),
        (td.linalg.norm(x), "(I - (x @ xᵀ)/norm(x)**2)/norm(x)"),
        (td.var(x), "2 * (I - (ones(k) @ ones(k)ᵀ)/k)/k"),
        (td.sum(u * td.log(u / x)), "diag(u/x**2)"),
        ((B @ x - y) @ (B @ x - y) + a * (x @ x), "2 * (a*I + Bᵀ @ B)"),
    ],
)
def test_hessians_of_models(function: td.Expr, matrix: str) -> None:
    check(td.jacobian_matrix(td.grad(function, x), x), matrix=matrix)
    check(td.hessian(function, x))


def test_a_hessian_by_a_matrix_is_of_kronecker_products() -> None:
    hessian = td.jacobian_matrix(td.grad(td.logdet(A), A), A)
    check(hessian, matrix="-(inv(A) ⊗ inv(A)ᵀ) @ K")
    net = td.sum((B @ td.tanh(A @ x) - y) ** 2)
    assert "einsum" not in td.jacobian_matrix(td.grad(net, A), A).to_string("matrix")


def test_a_gradient_and_its_slices_are_one_text() -> None:
    for function, symbol, text in (
        ((B @ x - y) @ (B @ x - y), x, "2*(Bᵀ @ (B @ x - y))[i]"),
        (td.sum(RESIDUAL**2), U, "2*((U @ Vᵀ - T) @ V)[i,j]"),
        (td.linalg.det(A), A, "adjugate(A)[j,i]"),
        (td.linalg.norm(X), X, "X[i,j]/norm(X)"),
    ):
        assert td.grad(function, symbol).to_string("slices", kept=0) == text


# --- how products and sums are written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "index", "matrix", "latex"),
    [
        (u / x, "u[i]/x[i] -> [i]", "u/x", r"\frac{u}{x}"),
        (2 * u / x, "2*u[i]/x[i] -> [i]", "2*u/x", r"\frac{2 \, u}{x}"),
        (x**-2, "1/x[i]**2 -> [i]", "1/x**2", r"\frac{1}{x^{\circ 2}}"),
        (u * td.exp(x) / (1 + td.exp(x)), "", "(u ∘ exp(x))/(1 + exp(x))", ""),
        (td.log(x) * (1 - x) * u, "u[i]*log(x[i])*(1 - x[i]) -> [i]", "u ∘ log(x) ∘ (1 - x)", ""),
        (A.T @ x + A @ x, "(A[i,j] + A[j,i])*x[j] -> [i]", "(A + Aᵀ) @ x", ""),
        (x @ (A.T + A), "", "(A + Aᵀ) @ x", ""),
        (-(A + A.T) @ x, "", "-(A + Aᵀ) @ x", ""),
        (-x - u, "-u[i] - x[i] -> [i]", "-u - x", "-u - x"),
        (x / td.sum(u) - u / td.sum(u) ** 3, "", "(x - u/sum(u)**2)/sum(u)", ""),
        (td.trace(A @ S) + td.trace(A.T @ S), "", "", ""),
        (A[0], "A[0,i] -> [i]", "A[0,:]", "A_{0, :}"),
        (A[:, 0], "A[i,0] -> [i]", "A[:,0]", "A_{:, 0}"),
        (A[0] @ x, "A[0,i]*x[i]", "(A @ x)[0]", ""),
        (A[1, 2], "A[1,2]", "A[1,2]", "A_{1, 2}"),
    ],
)
def test_products_and_sums(expression: td.Expr, index: str, matrix: str, latex: str) -> None:
    check(expression, index, matrix, latex)


@pytest.mark.parametrize(
    ("expression", "matrix"),
    [
        (x - 1, "x - 1"),  # a number is added to a vector as everyone writes it
        (A - 1, "A - ones(k) @ ones(k)ᵀ"),  # A - 1 might mean A - I
        (A - td.identity(k), "A - I"),
        (x - td.mean(x), "x - mean(x)"),
        (td.exp(x - td.mean(x)), "exp(x - mean(x))"),  # entry by entry there is no doubt
        (td.sigmoid(A) * (1 - td.sigmoid(A)), "sigmoid(A) ∘ (1 - sigmoid(A))"),
    ],
)
def test_scalars_that_are_added_to_every_entry(expression: td.Expr, matrix: str) -> None:
    check(expression, matrix=matrix)


@pytest.mark.parametrize(
    ("expression", "matrix"),
    [
        (td.jacobian_matrix(td.trace(T.T @ X) + td.trace(X.T @ X), X), "vec(T + 2*X)ᵀ"),
        (-td.vec(T) - td.vec(X), "-vec(T + X)"),
        (td.vec(X) + td.kron(td.vector("v", n), y), "v ⊗ y + vec(X)"),
        (td.jacobian_matrix(td.diag(x), x), "khatri_rao(I(k), I(k))"),
        (td.jacobian_matrix(td.diag(x * x), x), "2 * khatri_rao(I, I) @ diag(x)"),
        (td.jacobian_matrix(B @ td.diag(x) @ C, x), "khatri_rao(Cᵀ, B)"),
        (td.jacobian_matrix(B @ td.diag(x) @ C, x, layout="denominator"), "khatri_rao(Cᵀ, B)ᵀ"),
        (td.jacobian_matrix(B @ td.diag(x * x) @ C, x, layout="denominator"), "2 * diag(x) @ khatri_rao(Cᵀ, B)ᵀ"),
        (td.einsum("ij,->jij", X, 2 * a / b), '2*a*einsum("ij->jij", X)/b'),
    ],
    ids=str,
)
def test_columns_stacked_and_scalars_outside(expression: td.Expr, matrix: str) -> None:
    check(expression, matrix=matrix)


@pytest.mark.parametrize(
    ("expression", "matrix"),
    [
        (td.mean(x), "mean(x)"),
        (2 * td.sum(x) / k, "2*mean(x)"),
        (td.sum(B @ x) / k, "sum(B @ x)/k"),
        (td.sum(x) / (2 * k), "mean(x)/2"),
        (td.mean(c), "mean(c)"),
        (td.sum(c) / 5, "sum(c)/5"),
        (td.mean(x) ** 2, "mean(x)**2"),
        (td.mean(X), "mean(X)"),
        (td.mean(td.exp(x)) * x, "mean(exp(x))*x"),
        (td.mean(X, axis=0), "mean(X, axis=0)"),
        (td.mean(X, axis=1), "mean(X, axis=1)"),
        (X - td.mean(X, axis=0), "X - ones(m) @ mean(X, axis=0)ᵀ"),
        (td.mean(td.matrix("Y", n, n) @ X.T, axis=1), "Y @ mean(X, axis=0)"),
        (td.exp(td.mean(td.log(x))), "exp(mean(log(x)))"),
        (td.grad(td.std(x), x), "(x - mean(x))/(k*sqrt(((x - mean(x))ᵀ @ (x - mean(x)))/k))"),
        (X.T @ X - m * td.outer(td.mean(X, axis=0), td.mean(X, axis=0)), ""),
    ],
    ids=str,
)
def test_means(expression: td.Expr, matrix: str) -> None:
    check(expression, matrix=matrix)


@pytest.mark.parametrize(
    ("expression", "matrix"),
    [
        (td.sum(x * x), "xᵀ @ x"),
        (td.sum(x**3), "sum(x**3)"),
        (td.sum(abs(x) ** 3), "sum(abs(x)**3)"),
        (td.sum(X**3), "sum(X**3)"),
        (td.sum(u * x**3), "uᵀ @ x**3"),
        (td.grad(td.sum(abs(x) ** a), x), "a * (abs(x)**(a - 1) ∘ sign(x))"),
        (td.maximum(x, a), "maximum(x, a)"),
        (td.where(a < X, X, a + 1), "where(a < X, X, 1 + a)"),
        (td.exp(a * td.ones(k)), "exp(a)*ones(k)"),
    ],
    ids=str,
)
def test_powers_and_scalars_beside_what_goes_entry_by_entry(expression: td.Expr, matrix: str) -> None:
    check(expression, matrix=matrix)


def test_an_identity_has_no_transpose() -> None:
    text = td.jacobian_matrix(td.linalg.pinv(X), X).to_string("matrix")
    assert " - pinv(X) @ X)" in text
    assert not re.search(r"I(\(\w+\))?ᵀ", text)


def test_what_moves_comes_out_of_every_term() -> None:
    """The differential of the logistic likelihood, however it is written."""
    beta = td.vector("β", n)
    text = "(sigmoid(X @ β) - y)ᵀ @ X @ dβ"
    for loss in (td.sum(td.softplus(X @ beta) - y * (X @ beta)), td.sum(td.softplus(X @ beta)) - y @ X @ beta):
        check(td.differential(loss, beta), matrix=text)


def test_explain_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    td.explain(x @ A @ x, x)
    assert capsys.readouterr().out.count("dF = ") == 1
    for still in (td.sum(X), X, B @ x):
        td.explain(still, a)
        out = capsys.readouterr().out
        assert "differential  dF = 0\n" in out
        assert "@ da" not in out


# --- cross products and blocks ------------------------------------------------------------------------------------


def test_cross_products() -> None:
    check(td.cross(c, d), "cross(c, d)[i] -> [i]", "cross(c, d)", r"c \times d")
    check(td.cross(c, td.cross(c, d)), "cross(c, cross(c, d))[i] -> [i]", "cross(c, cross(c, d))")
    check(td.cross(c, A[:3, :3] @ d), matrix="cross(c, A[:3,:3] @ d)")
    check(td.dot(u[:3], td.cross(c, d)), matrix="u[:3]ᵀ @ cross(c, d)")


def test_the_jacobian_of_a_cross_product_is_a_skew_matrix() -> None:
    check(td.jacobian(td.cross(c, d), d), "cross(identity(3), c)[i,j] -> [i,j]", "cross(I, cᵀ)")
    check(td.jacobian(td.cross(c, d), c), "cross(identity(3), d)[j,i] -> [i,j]", "cross(dᵀ, I)")
    check(td.differential(td.cross(c, d)), matrix="cross(c, dd) + cross(dc, d)")


@pytest.mark.parametrize(
    ("expression", "index", "matrix", "latex"),
    [
        (
            td.concatenate([x, 2 * u]), "concatenate([x, 2*u])[i] -> [i]", "concatenate([x, 2*u])",
            r"\begin{bmatrix} x \\ 2 \, u \end{bmatrix}",
        ),
        (
            td.concatenate([x, y, u]), "concatenate([x, y, u])[i] -> [i]", "concatenate([x, y, u])",
            r"\begin{bmatrix} x \\ y \\ u \end{bmatrix}",
        ),
        (
            td.stack([x, u]), "stack([x, u])[i,j] -> [i,j]", "block([[xᵀ], [uᵀ]])",
            r"\begin{bmatrix} x^{\top} \\ u^{\top} \end{bmatrix}",
        ),
        (td.stack([x, u], axis=1), "stack([x, u], axis=1)[i,j] -> [i,j]", "block([[x, u]])", ""),
        (td.stack([a, b]), "stack([a, b])[i] -> [i]", "stack([a, b])", r"\begin{bmatrix} a \\ b \end{bmatrix}"),
        (
            td.block([[A, C], [C.T, td.identity(n)]]), "block([[A, C], [Cᵀ, identity(n)]])[i,j] -> [i,j]",
            "block([[A, C], [Cᵀ, I]])", r"\begin{bmatrix} A & C \\ C^{\top} & I \end{bmatrix}",
        ),
        (
            td.block_diag(A, X), "block([[A, zeros(k, n)], [zeros(m, k), X]])[i,j] -> [i,j]", "block([[A, 0], [0, X]])",
            r"\begin{bmatrix} A & 0 \\ 0 & X \end{bmatrix}",
        ),
        (
            td.concatenate([A, C], axis=1), "concatenate([A, C], axis=1)[i,j] -> [i,j]", "block([[A, C]])",
            r"\begin{bmatrix} A & C \end{bmatrix}",
        ),
        (td.grad(td.sum(x[1:] ** 2), x), "", "block([[0], [2*x[1:]]])", ""),
        (td.jacobian(td.concatenate([x, 2 * x]), x), "", "block([[I(k)], [2*I(k)]])", ""),
    ],
)  # fmt: skip
def test_blocks(expression: td.Expr, index: str, matrix: str, latex: str) -> None:
    check(expression, index, matrix, latex)


# --- cases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "lines"),
    [
        (td.exp(a * td.identity(k)), ["exp(a)  where i = j", "1       where i ≠ j"]),
        (td.exp(A + td.identity(k)), ["exp(1 + A[i,i])  where i = j", "exp(A[i,j])      where i ≠ j"]),
        (
            td.sigmoid(A + td.diag(x)) * td.outer(x, u),
            ["u[i]*x[i]*sigmoid(x[i] + A[i,i])  where i = j", "u[j]*x[i]*sigmoid(A[i,j])         where i ≠ j"],
        ),
        (
            (A + td.identity(k)) ** 2 / (1 + td.identity(k)),
            ["(1 + A[i,i])**2/2  where i = j", "A[i,j]**2          where i ≠ j"],
        ),
        (
            td.jacobian(td.log(A + td.outer(x, x)), x),
            [
                "2*x[i]/(x[i]**2 + A[i,i])  where i = j = k",
                "x[j]/(x[i]*x[j] + A[i,j])  where i = k ≠ j",
                "x[i]/(x[i]*x[j] + A[i,j])  where j = k ≠ i",
                "0                          otherwise",
            ],
        ),
        (
            td.maximum(A, td.identity(k)),
            ["maximum(A[i,i], 1)  where i = j", "maximum(A[i,j], 0)  where i ≠ j"],
        ),
    ],
    ids=str,
)
def test_cases_decide_each_delta(expression: td.Expr, lines: list[str]) -> None:
    assert expression.to_string("cases").splitlines() == lines


def test_terms_that_a_slice_makes_equal_are_added() -> None:
    slice_ = td.jacobian(td.linalg.inv(X.T @ X), X)[0, 0]
    check(slice_, matrix="-2 * (X @ inv(Xᵀ @ X))[:,0] @ inv(Xᵀ @ X)[0,:]ᵀ")
    assert "}_{" not in re.sub(r"\\(sum|right)", "", slice_.to_latex())  # TeX knows no double subscript
    reads_back(slice_, slice_.to_latex(), "latex")


# --- whole arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "index", "latex"),
    [
        (td.linalg.norm(B @ x - y), "norm(B @ x - y)", r"\left\|B x - y\right\|"),
        (td.softmax(B @ x), "softmax(B @ x)[i] -> [i]", r"\left[\operatorname{softmax}(B x)_{i}\right]_{i}"),
        (td.linalg.inv(td.diag(x) + A @ A.T)[0] @ x, "x[i]*inv(diag(x) + A @ Aᵀ)[0,i]", ""),
        (td.jacobian(td.linalg.inv(X.T @ X), X)[0, 0], "", ""),
        (td.linalg.det(A[1:, 1:]), "det(A[1:,1:])", r"\det(A_{1:, 1:})"),
        (td.linalg.norm(X * td.exp(X)), "norm(X ∘ exp(X))", r"\left\|X \circ \exp^{\circ}(X)\right\|_F"),
        (td.logdet(A + td.outer(x, x)), "logdet(x[i]*x[j] + A[i,j] -> [i,j])", ""),  # x xᵀ is matrix notation
        (td.logdet(td.identity(k) + A), "logdet(I(k) + A)", ""),
    ],
    ids=str,
)
def test_an_argument_of_a_function_of_matrices_is_in_matrix_notation(
    expression: td.Expr, index: str, latex: str
) -> None:
    """So that no index has two meanings in a text, as i has in inv(A[k,i]*B[k,j] -> [i,j])[i,l]."""
    check(expression, index)
    assert not latex or expression.to_latex() == latex
    reads_back(expression, expression.to_latex(), "latex")


# --- orders that no matrix has ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", [td.logsumexp(x), td.linalg.norm(x), (x @ A @ x) ** 2, td.sum(td.log(1 + td.exp(x)))]
)
@pytest.mark.parametrize("order", [3, 4])
def test_higher_orders_have_every_form(function: td.Expr, order: int) -> None:
    derivative = td.derivative(function, x, order)
    for form in ("index", "cases", "slices", "matrix"):
        assert derivative.to_string(form)
        assert derivative.to_latex(form)
    reads_back(derivative, str(derivative), "numpy")
    reads_back(derivative, derivative.to_string("matrix"), "matrix")


def test_a_third_derivative_in_each_form() -> None:
    third = td.derivative(td.linalg.norm(x), x, 3)
    assert str(third) == "(x[k]*(3*x[i]*x[j]/norm(x)**2 - δ[i,j]) - x[j]*δ[i,k] - x[i]*δ[j,k])/norm(x)**3 -> [i,j,k]"
    assert third.to_string("slices") == "(x[k] * (3 * (x @ xᵀ)/norm(x)**2 - I) - e_k @ xᵀ - x @ e_kᵀ)/norm(x)**3"
    assert third.to_string("cases").splitlines()[0].startswith("x[i]*(3*x[i]**2/norm(x)**2 - 3)/norm(x)**3 ")


# --- LaTeX --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "index", "matrix"),
    [
        (td.linalg.norm(X, ord="nuc"), r"\left\|X\right\|_*", r"\left\|X\right\|_*"),
        (td.linalg.norm(X), r"\left\|X\right\|_F", r"\left\|X\right\|_F"),
        (td.linalg.norm(x), r"\left\|x\right\|", r"\left\|x\right\|"),
        (td.linalg.det(A), r"\det(A)", r"\det(A)"),
        (td.logdet(A), r"\log\det(A)", r"\log\det(A)"),
        (abs(x), r"\left[\left|x_{i}\right|\right]_{i}", r"\operatorname{abs}(x)"),
        (td.equal(x, u), r"\left[\operatorname{equal}(x_{i}, u_{i})\right]_{i}", r"\operatorname{equal}(x, u)"),
        (td.not_equal(x, u), r"\left[x_{i} \neq u_{i}\right]_{i}", r"x \neq u"),
        (x >= u, r"\left[x_{i} \ge u_{i}\right]_{i}", r"x \ge u"),
        (x > u, r"\left[x_{i} > u_{i}\right]_{i}", "x > u"),
        (td.maximum(x, u), r"\left[\max(x_{i}, u_{i})\right]_{i}", r"\max(x, u)"),
        (
            td.where(x > 0, x, u),
            r"\left[\operatorname{where}(x_{i} > 0, x_{i}, u_{i})\right]_{i}",
            r"\operatorname{where}(x > 0, x, u)",
        ),
        (td.exp(A), r"\left[\exp(A_{ij})\right]_{i, j}", r"\exp^{\circ}(A)"),
        (td.cross(c, d), r"\left[(c \times d)_{i}\right]_{i}", r"c \times d"),
    ],
)
def test_latex_of_functions(expression: td.Expr, index: str, matrix: str) -> None:
    assert expression.to_latex() == index
    assert expression.to_latex("matrix") == matrix
    reads_back(expression, index, "latex")
    reads_back(expression, matrix, "latex")


def test_latex_with_products_and_subscripts_that_read_back() -> None:
    """A product of matrices among other factors is in brackets, a name with a subscript too; i + 0 is written."""
    W = td.matrix("W2", m, n)
    for e, form, text in (
        ((x @ A @ x) * x, "matrix", r"\left(x^{\top} A x\right) \, x"),
        (2 * A @ x, "matrix", "2 \\, A x"),
        (a * (A @ x), "matrix", "a \\, A x"),
        (W, "index", r"\left[(W_{2})_{ij}\right]_{i, j}"),
        (td.jacobian(x[:3], x), "index", r"\left[\delta_{j, i + 0}\right]_{i<3, j<k}"),
    ):
        assert e.to_latex(form) == text
        assert td.parse(text, dialect="latex", **{s.name: s for s in (x, A, a, W)}, k=k) == e


# --- every identity, in every form --------------------------------------------------------------------------------


def forms_of(sample: int) -> list[Any]:
    """Derived sides of the table with a form, the same ones in every run."""
    ready = [entry for entry in load() if not entry.missing()]
    chosen = random.Random(3).sample(ready, sample)
    forms = [("index", "numpy"), ("matrix", "matrix"), ("index", "latex"), ("matrix", "latex")]
    return [pytest.param(entry, *form, id=f"{entry.name}-{'-'.join(form)}") for entry in chosen for form in forms]


@pytest.mark.parametrize(("entry", "form", "dialect"), forms_of(90))
def test_what_is_derived_reads_back_in_every_form(entry: Identity, form: str, dialect: str) -> None:
    derived = entry.derive(entry.lhs())
    known = entry.known() | {f"d{name}": td.tensor(f"d{name}", *entry.shape(name)) for name in entry.symbols}
    text = derived.to_latex(form) if dialect == "latex" else derived.to_string(form)
    found = entry.evaluate(td.parse(text, dialect=dialect, **known))
    np.testing.assert_allclose(np.squeeze(found), np.squeeze(entry.evaluate(derived)), rtol=1e-8, atol=1e-9)


def test_duplication_and_elimination_matrices() -> None:
    """Magnus and Neudecker, chapter 3.8: derivatives by the distinct entries of a symmetric matrix."""
    R = td.matrix("R", k, k, symmetric=True)
    D, G = td.duplication(k), td.grad(td.logdet(R), R)
    texts = {
        "-elimination(k) @ (inv(R) ⊗ inv(R)) @ duplication(k)": td.jacobian_matrix(td.vech(td.linalg.inv(R)), R) @ D,
        "-duplication(k)ᵀ @ (inv(R) ⊗ inv(R)) @ duplication(k)": D.T @ td.jacobian_matrix(G, R) @ D,
        "duplication(k)ᵀ @ vec(inv(R))": D.T @ td.vec(G),
        "cholesky(R)": td.linalg.cholesky(R),
    }
    value = np.eye(4) + 0.1 * np.ones((4, 4))
    for text, e in texts.items():
        assert e.to_string("matrix") == text
        again = td.parse(text, dialect="matrix", R=R, k=k)
        np.testing.assert_allclose(again.evaluate(R=value), e.evaluate(R=value), rtol=1e-12)


def test_the_kronecker_product_of_two_vecs_is_told_apart() -> None:
    """The sizes of I and K follow from the parts of vec(A) ⊗ vec(X), not from their product alone."""
    A, X = td.matrix("A", 4, 5), td.matrix("X", 2, 3)
    e = td.vec(td.kron(A, X))
    text = "(I ⊗ K ⊗ I) @ (vec(A) ⊗ vec(X))"
    assert e.to_string("matrix") == text
    assert td.parse("(I(5) ⊗ K(3, 4) ⊗ I(2)) @ (vec(A) ⊗ vec(X))", dialect="matrix", A=A, X=X) == e
    short = td.parse(text, dialect="matrix", A=A, X=X)
    rng = np.random.default_rng(0)
    data = {"A": rng.normal(size=(4, 5)), "X": rng.normal(size=(2, 3))}
    np.testing.assert_array_equal(short.evaluate(data), np.kron(data["A"], data["X"]).ravel("F"))
