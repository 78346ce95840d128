"""The texts of expressions and of known derivatives, in every form and style; index and matrix texts parse back."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tensordsl as td

k, m, n, r = td.dims("k m n r")
a = td.scalar("a")
x, y, u, w = td.vector("x", k), td.vector("y", m), td.vector("u", k), td.vector("w", k)
t = td.vector("t", 5)
A, B, C, S = td.matrix("A", k, k), td.matrix("B", m, k), td.matrix("C", k, n), td.matrix("S", m, m)
X, P, Q, V = td.matrix("X", m, n), td.matrix("P", k, m), td.matrix("Q", n, r), td.matrix("V", k, k)
T = td.tensor("T", k, m, n)
SIZES = {"k": 2, "m": 3, "n": 4, "r": 6}
F = A * td.outer(x, x)
J = td.jacobian(F, x)


def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    symbols = (a, x, y, u, w, t, A, B, C, S, X, P, Q, V, T)
    names = {s.name: s.shape for s in symbols} | {f"d{s.name}": s.shape for s in symbols}
    return {
        name: rng.uniform(0.5, 1.5, tuple(s if isinstance(s, int) else SIZES[str(s)] for s in shape))
        for name, shape in names.items()
    }


def reads_back(expression: td.Expr, text: str, dialect: str = "numpy") -> None:
    """The text parses back to an equal value."""
    values = data()
    known = {s.name: s for s in expression.symbols} | {s.name: s for s in (a, x, y, t, A, B, C, S, X, P, Q, T)}
    back = td.parse(text, dialect=dialect, **known)
    found, wanted = (np.asarray(e.evaluate(values, **SIZES)) for e in (back, expression))
    if dialect == "matrix":
        found, wanted = np.squeeze(found), np.squeeze(wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_no_index_is_called_as_a_size_that_the_text_shows() -> None:
    z, p = td.vector("z", k), td.dim("p")
    repeated = td.einsum("ij,k->ijk", td.diag(z), td.ones(k))
    assert str(repeated) == "z[i]*δ[i,j] -> [i,j,l:k]"
    assert repeated.to_string("cases").splitlines()[0] == "z[i]  where i = j"
    assert str(td.std(z)) == "sqrt(sum[i]((z[i] - sum[j](z[j])/k)**2)/k)"
    assert str(td.grad(td.std(z), z)) == (
        "(z[i] - sum[j](z[j])/k)/(k*sqrt(sum[j]((z[j] - sum[l](z[l])/k)**2)/k)) -> [i]"
    )
    kronecker = td.jacobian(td.kron(td.matrix("Z", n, p), C), C)
    assert str(kronecker) == "Z[i,l]*δ[j,p]*δ[m,q] -> [(i,j:k),(l,m:n),p:k,q:n]"
    means = td.jacobian(td.mean(z) * td.outer(z, z), z)
    assert means.to_string("slices") == "(sum(z) * (e_l @ zᵀ) + sum(z) * (z @ e_lᵀ) + z @ zᵀ)/k"
    for expression in (repeated, td.std(z), kronecker, means):
        assert td.parse(str(expression), **{s.name: s for s in expression.symbols}) == expression


# --- the flagship -------------------------------------------------------------------------------------------------


def test_the_flagship_by_index() -> None:
    assert str(F) == "A[i,j]*x[i]*x[j] -> [i,j]"
    assert str(J) == "A[i,j]*(x[j]*δ[i,k] + x[i]*δ[j,k]) -> [i,j,k]"
    assert J.to_string("index", ascii=True) == "A[i,j]*(x[j]*delta[i,k] + x[i]*delta[j,k]) -> [i,j,k]"
    assert td.parse(str(J), A=A, x=x) == J
    assert td.parse(J.to_string("index", ascii=True), A=A, x=x) == J


def test_the_flagship_by_cases() -> None:
    assert J.to_string("cases").splitlines() == [
        "2*A[i,i]*x[i]  where i = j = k",
        "A[i,j]*x[j]    where i = k ≠ j",
        "A[i,j]*x[i]    where j = k ≠ i",
        "0              otherwise",
    ]
    assert J.to_string("cases", ascii=True).splitlines()[1] == "A[i,j]*x[j]    where i = k != j"


def test_the_flagship_by_differential() -> None:
    assert td.differential(F, x).to_string("matrix") == "A ∘ (dx @ xᵀ + x @ dxᵀ)"
    assert td.differential(F, x).to_string("matrix", ascii=True) == "A * (dx @ x.T + x @ dx.T)"
    assert td.differential(F).to_string("matrix") == "A ∘ (dx @ xᵀ + x @ dxᵀ) + (x @ xᵀ) ∘ dA"
    assert str(td.differential(F)) == "A[i,j]*(dx[i]*x[j] + dx[j]*x[i]) + dA[i,j]*x[i]*x[j] -> [i,j]"


def test_the_flagship_by_slices() -> None:
    assert J.to_string("slices") == "A ∘ (e_k @ xᵀ + x @ e_kᵀ)"
    assert J.to_string("slices", ascii=True) == "A * (e_k @ x.T + x @ e_k.T)"
    assert td.jacobian(x @ A @ x, x).to_string("slices") == "((A + Aᵀ) @ x)[i]"


def test_the_flagship_by_matrix() -> None:
    numerator, denominator = (td.jacobian_matrix(F, x, layout=layout) for layout in ("numerator", "denominator"))
    assert numerator.to_string("matrix") == "diag(vec(A)) @ (x ⊗ I + I ⊗ x)"
    assert numerator.to_string("matrix", ascii=True) == "diag(vec(A)) @ (kron(x, I) + kron(I, x))"
    assert denominator.to_string("matrix") == "(xᵀ ⊗ I + I ⊗ xᵀ) @ diag(vec(A))"
    assert denominator.to_string("matrix", ascii=True) == "(kron(x.T, I) + kron(I, x.T)) @ diag(vec(A))"
    for node in (numerator, denominator):
        for ascii_only in (False, True):
            assert td.parse(node.to_string("matrix", ascii=ascii_only), dialect="matrix", A=A, x=x) == node


def test_the_flagship_in_latex() -> None:
    assert J.to_latex() == r"\left[A_{ij} \, (x_{j} \, \delta_{ik} + x_{i} \, \delta_{jk})\right]_{i, j, k}"
    assert (
        td.jacobian_matrix(F, x).to_latex("matrix")
        == r"\operatorname{diag}(\operatorname{vec}(A)) (x \otimes I + I \otimes x)"
    )
    assert J.to_latex("slices") == r"A \circ \left(e_{k} x^{\top} + x e_{k}^{\top}\right)"
    assert (
        td.differential(F, x).to_latex("matrix") == r"A \circ \left(\mathrm{d}x x^{\top} + x \mathrm{d}x^{\top}\right)"
    )
    assert J.to_latex("cases").splitlines() == [
        r"\begin{cases}",
        r"2 \, A_{ii} \, x_{i} & \text{where } i = j = k \\",
        r"A_{ij} \, x_{j} & \text{where } i = k \neq j \\",
        r"A_{ij} \, x_{i} & \text{where } j = k \neq i \\",
        r"0 & \text{otherwise}",
        r"\end{cases}",
    ]
    assert J._repr_latex_() == rf"$\displaystyle {J.to_latex()}$"


def test_the_flagship_as_a_program() -> None:
    text = J.to_string("einsum")
    assert "A" in text
    assert "flop" in text.lower()
    assert J.to_string("einsum", ascii=True).isascii()
    assert J.to_latex("einsum").startswith(r"\begin{array}{l}")


def test_explain_prints_every_reading(capsys: pytest.CaptureFixture[str]) -> None:
    td.explain(F, x)
    text = capsys.readouterr().out
    for line in (
        "F = A[i,j]*x[i]*x[j] -> [i,j]",
        "∂F/∂x = A[i,j]*(x[j]*δ[i,k] + x[i]*δ[j,k]) -> [i,j,k]",
        "dF = A ∘ (dx @ xᵀ + x @ dxᵀ)",
        "vec(dF) = diag(vec(A)) @ (x ⊗ I + I ⊗ x) @ dx",
        "∂F/∂x[k] = A ∘ (e_k @ xᵀ + x @ e_kᵀ)",
        "∂vec(F)/∂xᵀ = diag(vec(A)) @ (x ⊗ I + I ⊗ x)",
        "∂vec(F)ᵀ/∂x = (xᵀ ⊗ I + I ⊗ xᵀ) @ diag(vec(A))",
    ):
        assert line in text
    td.explain(F, x, ascii=True)
    assert capsys.readouterr().out.isascii()


# --- known derivatives --------------------------------------------------------------------------------------------

SOFTMAX = td.exp(x) / td.sum(td.exp(x))
LOGISTIC = td.sum(td.log(1 + td.exp(B @ x)))

JACOBIANS = [  # expression, symbol, index text of the Jacobian, matrix text in numerator layout
    (P @ X @ Q, X, "P[i,k]*Q[l,j] -> [i,j,k,l]", "Qᵀ ⊗ P"),
    (
        X.T @ S @ X,
        X,
        "S[k,m]*X[m,j]*δ[i,l] + S[m,k]*X[m,i]*δ[j,l] -> [i,j,k,l]",
        "((Xᵀ @ Sᵀ) ⊗ I(n)) @ K(m, n) + I(n) ⊗ (Xᵀ @ S)",
    ),
    (A @ A, A, "A[l,j]*δ[i,k] + A[i,k]*δ[j,l] -> [i,j,k,l]", "Aᵀ ⊗ I(k) + I(k) ⊗ A"),
    (
        A @ A @ A,
        A,
        "A[l,m]*A[m,j]*δ[i,k] + A[i,m]*A[m,k]*δ[j,l] + A[i,k]*A[l,j] -> [i,j,k,l]",
        "(Aᵀ @ Aᵀ) ⊗ I + I ⊗ (A @ A) + Aᵀ ⊗ A",
    ),
    (B @ x, x, "B[i,j] -> [i,j]", "B"),
    (B @ x, B, "x[k]*δ[i,j] -> [i:m,j:m,k]", "xᵀ ⊗ I(m)"),
    (a * x, a, "x[i] -> [i]", "x"),
    (a * x, x, "a*δ[i,j] -> [i:k,j:k]", "a*I(k)"),
    (x * u, x, "u[i]*δ[i,j] -> [i,j]", "diag(u)"),
    (x * x, x, "2*x[i]*δ[i,j] -> [i,j]", "2*diag(x)"),
    (X**2, X, "2*X[i,j]*δ[i,k]*δ[j,l] -> [i,j,k,l]", "2*diag(vec(X))"),
    (1 / X, X, "-δ[i,k]*δ[j,l]/X[i,j]**2 -> [i,j,k,l]", "-diag(vec(1/X**2))"),
    (td.exp(x), x, "exp(x[i])*δ[i,j] -> [i,j]", "diag(exp(x))"),
    (td.sqrt(x), x, "δ[i,j]/(2*sqrt(x[i])) -> [i,j]", "diag(1/sqrt(x))/2"),
    (
        td.exp(td.outer(x, x)),
        x,
        "exp(x[i]*x[j])*(x[j]*δ[i,k] + x[i]*δ[j,k]) -> [i,j,k]",
        "diag(vec(exp(x @ xᵀ))) @ (x ⊗ I + I ⊗ x)",
    ),
    (
        SOFTMAX,
        x,
        "softmax(x)[i]*δ[i,j] - softmax(x)[i]*softmax(x)[j] -> [i,j]",
        "diag(softmax(x)) - softmax(x) @ softmax(x)ᵀ",
    ),
    (
        td.sigmoid(B @ x),
        x,
        "B[i,j]*sigmoid(sum[k](B[i,k]*x[k]))*(1 - sigmoid(sum[k](B[i,k]*x[k]))) -> [i,j]",
        "diag(sigmoid(B @ x) ∘ (1 - sigmoid(B @ x))) @ B",
    ),
    (td.linalg.inv(A), A, "-inv(A)[i,k]*inv(A)[l,j] -> [i,j,k,l]", "-inv(A)ᵀ ⊗ inv(A)"),
    (td.linalg.solve(A, x), A, "-x[l]*inv(A)[i,j]*inv(A)[k,l] -> [i,j,k]", "-(xᵀ @ inv(A)ᵀ) ⊗ inv(A)"),
    (td.linalg.solve(A, x), x, "inv(A)[i,j] -> [i,j]", "inv(A)"),
    (
        t[1:] * t[:-1],
        t,
        "t[:4][i]*δ[j,i + 1] + t[1:][i]*δ[j,i + 0] -> [i,j:5]",
        "diag(t[:4]) @ I(5)[1:,:] + diag(t[1:]) @ I(5)[:4,:]",
    ),
    (t[::-1] * t, t, "t[::-1][i]*δ[i,j] + t[i]*δ[j,4 - i] -> [i,j]", "diag(t[::-1]) + diag(t) @ I(5)[::-1,:]"),
    (td.kron(x, y), x, "y[j]*δ[i,l] -> [(i:k,j),l:k]", "I(k) ⊗ y"),
    (td.kron(x, y), y, "x[i]*δ[j,k] -> [(i,j:m),k:m]", "x ⊗ I(m)"),
    (td.outer(y, x), x, "y[i]*δ[j,l] -> [i,j:k,l:k]", "I(k) ⊗ y"),
    (td.outer(y, x), y, "x[j]*δ[i,k] -> [i:m,j,k:m]", "x ⊗ I(m)"),
    (
        td.kron(X, C),
        X,
        "C[j,l]*δ[i,p]*δ[k,q] -> [(i:m,j),(k:n,l),p:m,q:n]",
        "(I(n) ⊗ K(n, m) ⊗ I(k)) @ (I(m*n) ⊗ vec(C))",
    ),
    (td.khatri_rao(C, X), X, "C[i,k]*δ[j,l]*δ[k,n] -> [(i,j:m),k,l:m,n]", 'einsum("ij->(jik)(jk)", C, k=m)'),
    (td.vec(X), X, "δ[j,k]*δ[i,l] -> [(i:n,j:m),k:m,l:n]", "I(m*n)"),
    (X.T, X, "δ[j,k]*δ[i,l] -> [i:n,j:m,k:m,l:n]", "K(m, n)"),
    (td.unvec(td.kron(x, y), (m, k)), x, "y[i]*δ[j,l] -> [i,j:k,l:k]", "I(k) ⊗ y"),
    (td.mean(X, axis=0), X, "δ[i,k]/m -> [i:n,j:m,k:n]", "(I(n) ⊗ ones(m)ᵀ)/m"),
    (
        td.einsum("i,j,l->ijl", x, x, x),
        x,
        "x[j]*x[k]*δ[i,l] + x[i]*x[k]*δ[j,l] + x[i]*x[j]*δ[k,l] -> [i,j,k,l]",
        "x ⊗ x ⊗ I(k) + x ⊗ I(k) ⊗ x + I(k) ⊗ x ⊗ x",
    ),
]

GRADIENTS = [  # scalar, symbol, index text, matrix text
    (x @ A @ x, x, "(A[i,j] + A[j,i])*x[j] -> [i]", "(A + Aᵀ) @ x"),
    (x @ A @ u, A, "u[j]*x[i] -> [i,j]", "x @ uᵀ"),
    (x @ x, x, "2*x[i] -> [i]", "2*x"),
    ((B @ x - y) @ (B @ x - y), x, "2*B[j,i]*(sum[k](B[j,k]*x[k]) - y[j]) -> [i]", "2 * Bᵀ @ (B @ x - y)"),
    (td.logdet(A), A, "inv(A)[j,i] -> [i,j]", "inv(A)ᵀ"),
    (td.linalg.det(A), A, "adjugate(A)[j,i] -> [i,j]", "adjugate(A)ᵀ"),
    (td.trace(A), A, "δ[i,j] -> [i:k,j:k]", "I(k)"),
    (td.trace(V @ A), A, "V[j,i] -> [i,j]", "Vᵀ"),
    (td.trace(X.T @ S @ X), X, "(S[i,k] + S[k,i])*X[k,j] -> [i,j]", "(S + Sᵀ) @ X"),
    (td.trace(td.linalg.inv(A)), A, "-inv(A)[j,k]*inv(A)[k,i] -> [i,j]", "-inv(A)ᵀ @ inv(A)ᵀ"),
    (x @ td.linalg.inv(A) @ x, A, "-x[k]*x[l]*inv(A)[j,k]*inv(A)[l,i] -> [i,j]", "-inv(A)ᵀ @ x @ xᵀ @ inv(A)ᵀ"),
    (td.linalg.norm(x), x, "x[i]/norm(x) -> [i]", "x/norm(x)"),
    (td.linalg.norm(X), X, "X[i,j]/norm(X) -> [i,j]", "X/norm(X)"),
    (
        td.linalg.norm(B @ x - y),
        x,
        "B[j,i]*(sum[k](B[j,k]*x[k]) - y[j])/norm(B @ x - y) -> [i]",
        "(Bᵀ @ (B @ x - y))/norm(B @ x - y)",
    ),
    (td.sum(X), X, "1 -> [i:m,j:n]", "ones(m) @ ones(n)ᵀ"),
    (td.sum(td.log(x)), x, "1/x[i] -> [i]", "1/x"),
    (td.sum(A**-2), A, "-2/A[i,j]**3 -> [i,j]", "-2/A**3"),
    (td.einsum("ijl,i,j,l->", T, x, y, td.ones(n)), x, "T[i,j,k]*y[j] -> [i]", None),
]


@pytest.mark.parametrize(("function", "symbol", "index", "matrix"), JACOBIANS, ids=[case[3] for case in JACOBIANS])
def test_known_jacobians(function: td.Expr, symbol: td.Expr, index: str, matrix: str) -> None:
    jacobian, numerator = td.jacobian(function, symbol), td.jacobian_matrix(function, symbol)
    assert str(jacobian) == index
    assert numerator.to_string("matrix") == matrix
    for ascii_only in (False, True):
        reads_back(jacobian, jacobian.to_string("index", ascii=ascii_only))
        for node in (numerator, numerator.T):
            reads_back(node, node.to_string("matrix", ascii=ascii_only), "matrix")


@pytest.mark.parametrize(("function", "symbol", "index", "matrix"), GRADIENTS, ids=[case[2] for case in GRADIENTS])
def test_known_gradients(function: td.Expr, symbol: td.Expr, index: str, matrix: str | None) -> None:
    gradient = td.grad(function, symbol)
    assert str(gradient) == index
    reads_back(gradient, index)
    text = gradient.to_string("matrix")
    assert matrix is None or text == matrix
    reads_back(gradient, text, "matrix")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (td.hessian(LOGISTIC, x), "Bᵀ @ diag("),
        (td.hessian((B @ x - y) @ (B @ x - y), x), "2 * Bᵀ @ B"),
        (td.hessian(x @ A @ x, x), "A + Aᵀ"),
        (td.hessian(td.sum(td.exp(x)), x), "diag(exp(x))"),
        (td.hessian(td.sum(x * x), x), "2*I(k)"),
    ],
)
def test_known_hessians(expression: td.Expr, text: str) -> None:
    assert expression.to_string("matrix").startswith(text)
    reads_back(expression, expression.to_string("matrix"), "matrix")
    reads_back(expression, str(expression))


def test_the_hessian_of_the_logistic_loss_is_one_product() -> None:
    text = td.hessian(LOGISTIC, x).to_string("matrix")
    assert text.endswith(") @ B")
    assert text.count("diag") == 1


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (td.differential(P @ X @ Q, X), "P @ dX @ Q"),
        (td.differential(P @ X @ Q), "P @ dX @ Q + P @ X @ dQ + dP @ X @ Q"),
        (td.differential(X.T @ S @ X, X), "Xᵀ @ S @ dX + dXᵀ @ S @ X"),
        (td.differential(td.linalg.inv(A)), "-inv(A) @ dA @ inv(A)"),
        (td.differential(td.logdet(A)), "trace(inv(A) @ dA)"),
        (td.differential(td.linalg.det(A)), "trace(adjugate(A) @ dA)"),
        (td.differential(td.linalg.norm(X)), "trace(Xᵀ @ dX)/norm(X)"),
        (td.differential(td.kron(X, C), X), "dX ⊗ C"),
        (td.differential(td.khatri_rao(C, X), X), "khatri_rao(C, dX)"),
        (td.differential(td.vec(X)), "vec(dX)"),
        (td.differential(X.T), "dXᵀ"),
        (td.differential(td.diag(x)), "diag(dx)"),
        (td.differential(t[1:] * t[:-1]), "dt[1:] ∘ t[:4] + dt[:4] ∘ t[1:]"),
        (td.differential(td.exp(x)), "exp(x) ∘ dx"),
        (td.differential(X**2), "2 * (X ∘ dX)"),
    ],
)
def test_known_differentials(expression: td.Expr, text: str) -> None:
    assert expression.to_string("matrix") == text
    reads_back(expression, text, "matrix")


# --- how texts are put together -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (x, "x[i] -> [i]"),
        (-x, "-x[i] -> [i]"),
        (1 - x, "1 - x[i] -> [i]"),
        (x - 1, "x[i] - 1 -> [i]"),
        (3 * x / 2, "3*x[i]/2 -> [i]"),
        (x / (2 * a), "x[i]/(2*a) -> [i]"),
        (a * x, "a*x[i] -> [i]"),
        (x * a * A, "a*A[i,j]*x[j] -> [i,j]"),
        (x**5, "x[i]**5 -> [i]"),
        (x**-2, "1/x[i]**2 -> [i]"),
        (a ** (x + 1), None),
        (td.sum(A), "A[i,j]"),
        (td.sum(A) ** 2, None),
        (td.mean(A), "A[i,j]/k**2"),
        (td.trace(A), "A[i,i]"),
        (td.kron(A, X), "A[i,k]*X[j,l] -> [(i,j),(k,l)]"),
        (td.vec(X), "X[j,i] -> [(i,j)]"),
        (x[:, None], "x[i] -> [i,()]"),
        (A[0], "A[0,i] -> [i]"),
        (A[:, 1], "A[i,1] -> [i]"),
        (t[::2], "t[::2][i] -> [i]"),
        (td.ones(k, m), "1 -> [i:k,j:m]"),
        (td.zeros(k), "0 -> [i:k]"),
        (td.identity(k), "δ[i,j] -> [i:k,j:k]"),
        (td.basis(k, 1), "δ[i,1] -> [i:k]"),
        (td.diag(x), "x[i]*δ[i,j] -> [i,j]"),
        (td.constant([1.5, 2.0]), "constant([1.5, 2.0])[i] -> [i]"),
        (td.log(td.sum(td.exp(x))), "log(sum[i](exp(x[i])))"),
        (x > 0, "x[i] > 0 -> [i]"),
        (td.sum(T, axis=(0, 2)), "T[j,i,k] -> [i]"),
        (td.sum(x) - x, None),
        (a * td.constant(1e-7), "1e-07*a"),
        (td.sum(x * (A @ x)), "A[i,j]*x[i]*x[j]"),
    ],
)
def test_index_texts(expression: td.Expr, text: str | None) -> None:
    found = str(expression)
    assert text is None or found == text
    reads_back(expression, found)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (A @ x, "A @ x"),
        (x @ A, "Aᵀ @ x"),
        (x @ A @ u, "xᵀ @ A @ u"),
        (A @ (B.T @ y), "A @ Bᵀ @ y"),
        (2 * A @ x, "2 * A @ x"),
        (a * (A @ x), "a * (A @ x)"),
        (2 * x, "2*x"),
        (A * V, "A ∘ V"),
        (A * A * V, "A**2 ∘ V"),
        ((A + V) @ x, "(A + V) @ x"),
        (td.outer(x, y), "x @ yᵀ"),
        (td.diag(x) @ A, "diag(x) @ A"),
        (td.diag(x) @ A @ td.diag(u), "A ∘ (x @ uᵀ)"),
        (td.diagonal(A), "diag(A)"),
        (td.trace(A @ V), "trace(A @ V)"),
        (A + td.identity(k), "I + A"),
        (2 * td.identity(k), "2*I(k)"),
        (td.kron(A, X), "A ⊗ X"),
        (td.kron(A, X) @ td.vec(td.ones(n, k)), None),
        (td.vec(X), "vec(X)"),
        (td.sum(A, axis=1), "A @ ones(k)"),
        (td.sum(x), "sum(x)"),
        (x @ x, "xᵀ @ x"),
        ((x @ x) ** 2, None),
        (x[1:], "x[1:]"),
        (A[1:], "A[1:,:]"),
        (A[:, 0], "A[:,0]"),
        (x[0], "x[0]"),
        (A - 1, "A - ones(k) @ ones(k)ᵀ"),
        (x / (u @ x), "x/(uᵀ @ x)"),
        (td.linalg.inv(A) @ x, "inv(A) @ x"),
        (td.zeros(k, m), "zeros(k, m)"),
        (td.einsum("ijl,l->ij", T, td.ones(n)), None),
        (td.khatri_rao(A, B), "khatri_rao(A, B)"),
        (td.tensordot(T, X, 2), 'einsum("ijk,jk->i", T, X)'),
    ],
)
def test_matrix_texts(expression: td.Expr, text: str | None) -> None:
    found = expression.to_string("matrix")
    assert text is None or found == text
    reads_back(expression, found, "matrix")


def test_a_tensor_of_three_axes_is_an_einsum() -> None:
    text = J.to_string("matrix")
    assert "einsum(" in text
    reads_back(J, text, "matrix")


@pytest.mark.parametrize(
    ("expression", "latex"),
    [
        (td.matrix("Sigma", k, k) @ td.vector("θ", k), r"\left[\Sigma_{ij} \, \theta_{j}\right]_{i}"),
        (td.vector("x_1", k), r"\left[(x_{1})_{i}\right]_{i}"),
        (td.vector("alpha2", k), r"\left[(\alpha_{2})_{i}\right]_{i}"),
        (td.matrix("rate", k, m), r"\left[\mathrm{rate}_{ij}\right]_{i, j}"),
        (td.linalg.norm(x), r"\left\|x\right\|"),
        (abs(a), r"\left|a\right|"),
        (td.sqrt(a), r"\sqrt{a}"),
        (a / 2, r"\frac{a}{2}"),
        (td.exp(a), r"\exp(a)"),
        (td.sum(x * x), r"\sum_{i} x_{i}^{2}"),
        (td.logdet(A), r"\log\det(A)"),
        (td.log(td.sum(td.exp(x))), r"\log\left(\sum_{i} \exp(x_{i})\right)"),
    ],
)
def test_latex_of_index_texts(expression: td.Expr, latex: str) -> None:
    assert expression.to_latex() == latex


@pytest.mark.parametrize(
    ("expression", "latex"),
    [
        (A @ x, "A x"),
        (A * V, r"A \circ V"),
        (td.kron(A, X), r"A \otimes X"),
        (A.T @ x, r"A^{\top} x"),
        (td.linalg.inv(A), "A^{-1}"),
        (td.linalg.inv(A).T, r"A^{-\top}"),
        (A * A, r"A^{\circ 2}"),
        (A**-2, r"\frac{1}{A^{\circ 2}}"),
        (td.linalg.norm(x) ** 5 * A, r"\left\|x\right\|^{5} \, A"),
        (td.trace(A), r"\operatorname{tr}(A)"),
        (td.identity(k), "I_{k}"),
        (td.commutation(m, n), "K_{m, n}"),
        (td.ones(k), r"\mathbf{1}_{k}"),
        (td.basis(k, 1), "e_{1}"),
        (td.sum(X, axis=0), r"X^{\top} \mathbf{1}_{m}"),
        (x / a, r"\frac{x}{a}"),
        (-(A + V) @ x, r"-(A + V) x"),
        (td.vec(td.linalg.inv(A)), r"\operatorname{vec}\left(A^{-1}\right)"),
        (2 * (x @ x) / 3, r"\frac{2 \, x^{\top} x}{3}"),
    ],
)
def test_latex_of_matrix_texts(expression: td.Expr, latex: str) -> None:
    assert expression.to_latex("matrix") == latex


def test_no_double_subscripts() -> None:
    """TeX refuses x_1_i; what has a subscript already is put in brackets."""
    for name in ("x_1", "alpha2", "x1", "theta_i_j"):
        text = td.vector(name, k).to_latex()
        assert re.search(r"\([^()]*_\{[^{}]*\}\)_\{i\}", text), text


# --- what is refused ----------------------------------------------------------------------------------------------


def test_an_unknown_form() -> None:
    with pytest.raises(td.UnsupportedError, match="'prose' is unknown; known are 'index', 'cases'"):
        x.to_string("prose")
    with pytest.raises(td.UnsupportedError, match="'prose' is unknown"):
        x.to_latex("prose")


def test_more_axes_than_there_are() -> None:
    with pytest.raises(td.ShapeError, match="kept=5 axes cannot be kept of 3"):
        J.to_string("slices", kept=5)


def test_too_many_cases_are_refused() -> None:
    z = td.vector("z", 9)
    many = td.einsum("a,b,c,d,e,f->abcdef", z, z, z, z, z, z)
    with pytest.raises(td.UnsupportedError, match="use the index form"):
        td.derivative(many, z, 3).to_string("cases")


def test_large_constants_are_named_not_written() -> None:
    assert "constant_100_" in str(x[0] * td.constant(np.arange(100.0)))


def test_a_label_twice_in_one_group_is_the_vec_of_a_diagonal() -> None:
    k, m = td.dims("k m")
    A, x, y = td.matrix("A", k, k), td.vector("x", m), td.vector("y", k)
    for e, text in (
        (td.jacobian_matrix(td.trace(A), A), "vec(I(k))ᵀ"),
        (td.jacobian_matrix(x * td.trace(A), A), "x @ vec(I(k))ᵀ"),
        (td.jacobian_matrix(td.diagonal(A) @ y, A), "vec(diag(y))ᵀ"),
        (td.outer(td.vec(td.diag(y)), x), "vec(diag(y)) @ xᵀ"),
    ):
        assert e.to_string("matrix") == text
        data = {A: np.arange(9.0).reshape(3, 3), x: np.array([1.0, -2]), y: np.array([1.0, 2, 3])}
        again = td.parse(text, dialect="matrix", A=A, x=x, y=y)
        np.testing.assert_array_equal(again.evaluate(data), e.evaluate(data))
