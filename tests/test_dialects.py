"""The dialects of `td.parse`, MATLAB's and LaTeX's: values beside NumPy written by hand, round trips, bad text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from strategies import DIMS, close, random_case

import tensordsl as td
from tensordsl.functions.record import functions

k, m, n = td.dims("k m n")
rng = np.random.default_rng(7)
SIZES = {"k": 3, "m": 4, "n": 5}
SHAPES: dict[str, tuple[Any, ...]] = {
    "A": (k, k),
    "B": (k, k),
    "C": (k, m),
    "X": (m, n),
    "x": (k,),
    "y": (k,),
    "u": (m,),
    "a": (),
    "b": (),
    "mu": (k,),
    "Sigma_xy": (k, m),
    "x1": (k,),
    "AB": (m, k),
}
DATA = {name: rng.uniform(0.5, 1.5, size=tuple(SIZES[str(size)] for size in shape)) for name, shape in SHAPES.items()}
DATA["A"] += 3 * np.eye(3)
DATA["B"] += 2 * np.eye(3)
A, B, C, X, x, y, u, a, b, mu, S, x1, AB = DATA.values()
inv, det, norm = np.linalg.inv, np.linalg.det, np.linalg.norm


def check(text: str, dialect: str, wanted: Any) -> None:
    found = td.parse(text, dialect=dialect, **SHAPES)
    value = found.evaluate({name: DATA[name] for name in DATA}, **SIZES)
    wanted = np.asarray(wanted)
    assert value.shape == wanted.shape
    assert np.allclose(value, wanted, rtol=1e-12, atol=1e-12)


def words_of(text: str, dialect: str, kind: type[Exception] = td.ParseError, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        td.parse(text, dialect=dialect, **SHAPES | more)
    return str(caught.value)


def under(message: str) -> str:
    """What the caret of a message stands under."""
    lines = message.splitlines()
    place = next(number for number, line in enumerate(lines) if line.strip() and set(line.strip()) == {"^"})
    return lines[place - 1][lines[place].index("^") : len(lines[place])]


# --- MATLAB -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A*x", A @ x),
        ("x'*A*y", x @ A @ y),
        ("x*u'", np.outer(x, u)),
        ("A.*(x*y')", A * np.outer(x, y)),
        ("x.*y", x * y),
        ("a*A*b", a * b * A),
        ("A*2", 2 * A),
        ("A.'", A.T),
        ("C'*x", C.T @ x),
        ("A'^2", A.T @ A.T),
        ("A^2'", (A @ A).T),
        ("A^3", A @ A @ A),
        ("A^-1*x", inv(A) @ x),
        ("A^-2", inv(A) @ inv(A)),
        ("A^0*x", x),
        ("A.^2", A**2),
        ("x.^-1", 1 / x),
        ("2.^x", 2**x),
        ("2^a", 2**a),
        ("a^2^b", (a**2) ** b),
        ("-a^2", -(a**2)),
        ("2^-1*x", x / 2),
        ("A\\x", np.linalg.solve(A, x)),
        ("A\\C", np.linalg.solve(A, C)),
        ("C'/A", C.T @ inv(A)),
        ("x'/A*y", x @ inv(A) @ y),
        ("x/a", x / a),
        ("x/(y'*y)", x / (y @ y)),
        ("A*x/2*b", A @ x / 2 * b),
        ("A./B", A / B),
        ("1./x", 1 / x),
        ("5./x", 5 / x),
        ("x.\\y", y / x),
        ("a\\x", x / a),
        ("(x'*y)*A", (x @ y) * A),
        ("x'*y/(x'*x)*A", (x @ y) / (x @ x) * A),
        ("norm2(A*x - y)^2", norm(A @ x - y) ** 2),
        ("tr(A*B)", np.trace(A @ B)),
        ("tr(x'*A*y)", x @ A @ y),
        ("inv(A)*y", inv(A) @ y),
        ("det(A)*logdet(B)", det(A) * np.log(det(B))),
        ("log(det(A))", np.log(det(A))),
        ("exp(-x'*A*x/2)", np.exp(-x @ A @ x / 2)),
        ("sum(C)", C.sum(axis=0)[None]),
        ("sum(C,1)", C.sum(axis=0)[None]),
        ("sum(C,2)", C.sum(axis=1)),
        ("sum(C,'all')", C.sum()),
        ("sum(sum(C))", C.sum()),
        ("sum(C(:))", C.sum()),
        ("sum(x')", x.sum()),
        ("sum(x,2)", x),
        ("mean(C)", C.mean(axis=0)[None]),
        ("mean(C,2)", C.mean(axis=1)),
        ("prod(C)", C.prod(axis=0)[None]),
        ("var(x)", x.var(ddof=1)),
        ("var(x,1)", x.var()),
        ("std(C,0,2)", C.std(axis=1, ddof=1)),
        ("max(x)", x.max()),
        ("max(C)", C.max(axis=0)[None]),
        ("max(C,[],2)", C.max(axis=1)),
        ("min(C,[],'all')", C.min()),
        ("max(x,1)", np.maximum(x, 1)),
        ("min(x,y)", np.minimum(x, y)),
        ("softmax(C)", np.exp(C) / np.exp(C).sum(axis=0)),
        ("softmax(x)", np.exp(x) / np.exp(x).sum()),
        ("logsumexp(x)", np.log(np.exp(x).sum())),
        ("norm(x)", norm(x)),
        ("norm(x')", norm(x)),
        ("norm(x,1)", norm(x, 1)),
        ("norm(x,3)", norm(x, 3)),
        ("norm(x,'inf')", x.max()),
        ("norm(C)", norm(C, 2)),
        ("norm(C,1)", norm(C, 1)),
        ("norm(C,Inf)", norm(C, np.inf)),
        ("norm(C,'fro')", norm(C)),
        ("dot(x,y)", x @ y),
        ("dot(A,B)", (A * B).sum(axis=0)[None]),
        ("diag(x')", np.diag(x)),
        ("expm(0*A) + exp(0*B)", np.eye(3) + 1),
        ("chol(A*A')", np.linalg.cholesky(A @ A.T).T),
        ("log2(x) + log10(y)", np.log2(x) + np.log10(y)),
        ("reshape(C,m,k)", C.reshape(4, 3, order="F")),
        ("reshape(C,[],1)", C.ravel(order="F")),
        ("repmat(x,2,2)", np.tile(x[:, None], (2, 2))),
        ("C(:)", C.ravel(order="F")),
        ("x(:)'*y(:)", x @ y),
        ("C(5)", C.ravel(order="F")[4]),
        ("C(1,:)", C[:1]),
        ("C(end,1) + x(end) - u(end-1)", C[-1, 0] + x[-1] - u[-2]),
        ("u(2:end)", u[1:]),
        ("u(end:-1:1)", u[::-1]),
        ("u([1 3])", u[[0, 2]]),
        ("C(:,[2 4])", C[:, [1, 3]]),
        ("numel(C)*a - size(C,2)", 12 * a - 4),
        ("[x; u]'*ones(k + m,1)", x.sum() + u.sum()),
        ("horzcat(A, B)*[x; y]", A @ x + B @ y),
        ("max(A*x, 0) % the rectifier", np.maximum(A @ x, 0)),
        ("x' ... and on the next line\n * y;", x @ y),
        ("(y - A*x)'*(y-A*x)", (y - A @ x) @ (y - A @ x)),
        ("diag(x)*C", np.diag(x) @ C),
        ("diag(A)", np.diag(A)),
        ("vector(1)'*x", x.sum()),
        ("x - vector(2)", x - 2),
        ("C*vector(1)", C.sum(axis=1)),
        ("matrix(1)*x - A*x", x.sum() - A @ x),
        ("A + a*eye", A + a * np.eye(3)),
        ("eye(k) - A", np.eye(3) - A),
        ("ones(k, m).*C", C),
        ("ones(k)*x", np.full(3, x.sum())),
        ("[1 2 3; 4 5 6]", np.array([[1, 2, 3], [4, 5, 6]])),
        ("[1, -2; 3, 4]", np.array([[1, -2], [3, 4]])),
        ("[1 -2\n 3 - 1 4]", np.array([[1, -2], [2, 4]])),
        ("[1;2;3]", np.array([1, 2, 3])),
        ("[1 2.5 -3e0]", np.array([[1, 2.5, -3]])),
        ("[x' a]'", np.append(x, a)) if "block" in functions else ("x", x),
        ("x(1)*A(2,3)", x[0] * A[1, 2]),
        ("A(:,2)", A[:, 1]),
        ("u(2:4)", u[1:4]),
        ("C(2:3,1)", C[1:3, 0]),
        ("x > 1", x > 1),
        ("A∘B", A * B),
        ("A⊙B", A * B),
        ("x⊗u", np.kron(x, u)),
        ("Aᵀ*x", A.T @ x),
        ("2*pi*a", 2 * np.pi * a),
        ("(1+2i)*x", (1 + 2j) * x),
    ],
)
def test_matlab(text: str, wanted: Any) -> None:
    check(text, "matlab", wanted)


def test_matlab_keeps_to_columns() -> None:
    assert td.parse("x'", dialect="matlab", x=k).shape == (1, k)
    assert td.parse("x", dialect="matlab", x=k) == td.vector("x", k)
    assert td.parse("A*eye", dialect="matlab", A=(m, n)) == td.matrix("A", m, n)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("A*x*y", td.ShapeError, "matrix product"),
        ("x^2", td.ShapeError, "A vector has no power"),
        ("A^a", td.ParseError, "whole exponent"),
        ("a^x", td.ParseError, r"An exponent is a number. Write \.\^"),
        ("C^2", td.ShapeError, "Only a square matrix has powers"),
        ("A^100", td.ParseError, "goes up to"),
        ("[1 2; 3]", td.ShapeError, "The rows of a matrix have 2, 1 entries"),
        ("x(0)", td.ParseError, "count from 1"),
        ("x(0:2)", td.ParseError, "count from 1"),
        ("sum(C,3)", td.ParseError, "A dimension is a number from 1 to 2"),
        ("sum(C,0)", td.ParseError, "A dimension is a number from 1 to 2"),
        ("norm2(C)", td.ShapeError, r"norm\(A\(:\),2\)"),
        ("norm(C,3)", td.ParseError, "of the order 1, 2, inf or 'fro'"),
        ("logm(A)", td.ParseError, "logm is not read here"),
        ("x/y", td.ShapeError, "least squares"),
        ("C\\x", td.ShapeError, r"pinv\(A\)\*b"),
        ("a/A", td.ShapeError, "A number is divided by a matrix"),
        ("swapaxes(A, 0, 1)", td.ParseError, "counts axes and positions from 0"),
        ("A(x)", td.ParseError, r"write \* for a product"),
        ("a(1)", td.ParseError, "A number has no positions"),
        ("eye(k, m)", td.ParseError, "an identity is square here"),
        ("z = A*x", td.ParseError, "parse the right side"),
        ("A @ x", td.ParseError, "An expression of MATLAB"),
        ("A*", td.ParseError, "ends too early"),
        ("A x", td.ParseError, r"write products with \* or \.\*"),
        ("z*x", td.ParseError, r"td.parse\(text, z=\(k,\)\)"),
        ("eye", td.ShapeError, r"eye\(k\) for the identity"),
        ("matrix(1)*x", td.ShapeError, r"ones\(k, m\) in place of matrix\(1\)"),
        ("frob(A)", td.ParseError, "'frob' is not known"),
    ],
)
def test_what_matlab_refuses(text: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        td.parse(text, dialect="matlab", **SHAPES)


# --- LaTeX --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"(xx^T)\circ A", np.outer(x, x) * A),
        (r"A \odot xx^\top", A * np.outer(x, x)),
        (r"x^\top A x", x @ A @ x),
        (r"x^{\mathrm{T}}Ay", x @ A @ y),
        (r"x^{\mathsf T} A^\intercal y", x @ A.T @ y),
        ("xᵀ A y", x @ A @ y),
        ("x' A y", x @ A @ y),
        (r"A^{-1}x", inv(A) @ x),
        (r"A^{-T} x", inv(A).T @ x),
        (r"A^{-\top}x", inv(A).T @ x),
        (r"\left(A^\top A\right)^{-1} A^\top y", inv(A.T @ A) @ A.T @ y),
        (r"\operatorname{vec}(C)", C.T.ravel()),
        (r"\operatorname{tr}(A^\top B)", np.trace(A.T @ B)),
        (r"\mathrm{tr}\left(A\right)B", np.trace(A) * B),
        (r"\text{tr} A B + a", np.trace(A @ B) + a),
        (r"\operatorname{diag}(x)C", np.diag(x) @ C),
        (r"\frac{a}{b}x", a / b * x),
        (r"\tfrac12 x^\top x", x @ x / 2),
        (r"\frac1a x", x / a),
        (r"1/2 x^\top x", x @ x / 2),
        (r"x^\top y / a", x @ y / a),
        (r"x / \|x\|", x / norm(x)),
        (r"2/3/4", 2 / 3 / 4),
        (r"\|Ax - y\|_2^2", norm(A @ x - y) ** 2),
        (r"\lVert x \rVert", norm(x)),
        (r"||x||_2^2", x @ x),
        (r"x^{\!\top} y", x @ y),
        (r"e^{-x}", np.exp(-x)),
        (r"\left\| C \right\|_F^2", (C**2).sum()),
        (r"\bigl\| x \bigr\| \|y\|", norm(x) * norm(y)),
        (r"\lVert x \|x\| \rVert", norm(x * norm(x))),
        (r"|A|", det(A)),
        (r"\det(A) \det B", det(A) * det(B)),
        (r"\log|A| - \ln\det B", np.log(det(A)) - np.log(det(B))),
        (r"\log \det A", np.log(det(A))),
        (r"|a - 5|", abs(a - 5)),
        (r"e^{-a^2/2}", np.exp(-(a**2) / 2)),
        (r"\exp(x)^{\circ 2}", np.exp(x) ** 2),
        (r"\exp\left(-\frac{a}{2}\right)b", np.exp(-a / 2) * b),
        (r"\log a b", np.log(a * b)),
        (r"\log^2 a", np.log(a) ** 2),
        (r"\sin a \cos b", np.sin(a) * np.cos(b)),
        (r"\sqrt{a} \sqrt[3]{b}", np.sqrt(a) * b ** (1 / 3)),
        (r"\sqrt2 x", np.sqrt(2) * x),
        (r"1^\top x + 1_k^T y", x.sum() + y.sum()),
        (r"\mathbb{1}^\top x + \mathbbm{1}^\top y", x.sum() + y.sum()),
        (r"x + 11^\top x", x + x.sum()),
        (r"(I - \frac{1}{3} \mathbf 1 \mathbf 1^\top) x", x - x.mean()),
        (r"\textbf{x}^\textrm{T} \textit{y} + x^{\textup{T}}{\bf y}", 2 * x @ y),
        (r"\rm{tr}(A) + {\rm tr}(A) + \mathop{\mathrm{tr}} B", 2 * np.trace(A) + np.trace(B)),
        (r"\mathbf{Ax}", A @ x),
        (r"\boldsymbol{\mathbf{x}}^\mathbf{T} y", x @ y),
        (r"K(k, m) \operatorname{vec}(C) - K_{km} \operatorname{vec}(C)", np.zeros(12)),
        (r"K_{k, m} \operatorname{vec}(C)", C.ravel()),
        (r"\exp^{\circ}(A)x", np.exp(A) @ x),
        (r"e^{\circ A}x", np.exp(A) @ x),
        (r"\log^\circ(A)x", np.log(A) @ x),
        (r"A^{\circ 1/2}x", np.sqrt(A) @ x),
        (r"\exp(0 A) + e^{0 A}", 2 * np.eye(3)),
        (r"\sqrt{A^\top A} \sqrt{A^\top A} - A^\top A + (A^\top A)^{1/2}(A^\top A)^{-1/2}", np.eye(3)),
        (r"\max(x) - \min(x)", x.max() - x.min()),
        (r"\operatorname{ReLU}(A x)", np.maximum(A @ x, 0)),
        (r"\left(\begin{array}{cc}1&2\\3&4\end{array}\right)", np.array([[1, 2], [3, 4]])),
        (r"(y - A x)^\top(y-Ax)", (y - A @ x) @ (y - A @ x)),
        (r"A \otimes C", np.kron(A, C)),
        (r"x \cdot y", x @ y),
        (r"a \cdot A", a * A),
        (r"a \times b", a * b),
        (r"\langle Ax, y \rangle + \langle A, B \rangle", A @ x @ y + (A * B).sum()),
        (r"A^2x", A @ A @ x),
        (r"A^{\circ 2}x", A**2 @ x),
        (r"x^{\odot 2}", x**2),
        (r"A^{-2}", inv(A) @ inv(A)),
        (r"(A + B)^{2}", (A + B) @ (A + B)),
        (r"a^{x^\top y}", a ** (x @ y)),
        (r"(x^\top y) A", (x @ y) * A),
        (r"\frac{x^\top A x}{x^\top x}", x @ A @ x / (x @ x)),
        (r"\sigma(Ax)", 1 / (1 + np.exp(-A @ x))),
        (r"I + A", np.eye(3) + A),
        (r"(I_k - A) x", x - A @ x),
        (r"I_{k \times k} x", x),
        (r"\mathbf{1}^\top x", x.sum()),
        (r"C\mathbf{1}_m", C.sum(axis=1)),
        (r"\mathbb{1}_k^{\top} C \mathbf{1}", C.sum()),
        (r"\mathbf{x}^\top \boldsymbol{\mu}", x @ mu),
        (r"(x-\mu)^\top A^{-1}(x-\mu)", (x - mu) @ inv(A) @ (x - mu)),
        (r"x^\top\Sigma_{xy} u", x @ S @ u),
        (r"\Sigma^{\top}_{xy} x", S.T @ x),
        (r"\Sigma_{\mathrm{xy}}\,u", S @ u),
        (r"x_1 + x_{1}", 2 * x1),
        (r"ABx", AB @ x),
        (r"\mathrm{AB}\, x", AB @ x),
        (r"A B x", A @ B @ x),
        (r"\sum_{i,j} A_{ij} x_i y_j", x @ A @ y),
        (r"\sum_i \sum_j A_{ij} x_j^2", (A @ x**2).sum()),
        (r"\sum_{i=1}^k x_i^2", x @ x),
        (r"\sum_{i=1}^{k} x_i \log x_i", (x * np.log(x)).sum()),
        (r"A_{ij} x_i y_j", x @ A @ y),
        (r"\left[A_{ij} x_j\right]_i", A @ x),
        (r"\left[A_{ij} x_i\right]_{ij}", A * x[:, None]),
        (r"[C_{ij}]_{j,i}", C.T),
        (r"\sum_i [Ax]_i y_i", A @ x @ y),
        (r"\sum_i (A^{-1})_{ii} + \sum_i A^{-1}_{ii}", 2 * np.trace(inv(A))),
        (r"\sum_i e^{-x_i}", np.exp(-x).sum()),
        (r"\left[\exp\left(\sum_{j} A_{ij} x_j\right)\right]_{i}", np.exp(A @ x)),
        (r"\sum_{i,j} \delta_{ij} A_{ij}", np.trace(A)),
        (r"A_{01} + A_{1, 2}", A[0, 1] + A[1, 2]),
        (r"x_{0:2}", x[:2]),
        (r"\begin{bmatrix} 1 & 2 \\ -3 & 4.5 \end{bmatrix}", np.array([[1, 2], [-3, 4.5]])),
        (r"\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}", -2),
        (r"1.5 \cdot 10^{-3} x", 1.5e-3 * x),
        (r"2\pi a", 2 * np.pi * a),
        (r"$x^\top x$", x @ x),
        (r"$$ x^\top x. $$", x @ x),
        (r"\[ x^\top x \]", x @ x),
        (r"x^\top\!A\;x~,", x @ A @ x),
        (r"\displaystyle\big(A+B\big)\Bigl[x\Bigr]", (A + B) @ x),
        (r"\{a + b\}x", (a + b) * x),
        (r"tr(A)x", np.trace(A) * x),
        (r"x \geq y", x >= y),
    ],
)
def test_latex(text: str, wanted: Any) -> None:
    check(text, "latex", wanted)


def test_what_is_declared_comes_first() -> None:
    """A letter means what it was declared to be, not what it usually stands for."""
    assert td.parse("a^T", dialect="latex", a=(), T=()) == td.scalar("a") ** td.scalar("T")
    assert td.parse("a^{T}A^T", dialect="latex", a=(), T=(), A=()) == td.scalar("a") ** td.scalar("T") * td.scalar(
        "A"
    ) ** td.scalar("T")
    assert td.parse(r"\sigma(x+x)", dialect="latex", sigma=(), x=3) == 2 * td.scalar("sigma") * td.vector("x", 3)
    assert td.parse("e^{a}", dialect="latex", e=(), a=()) == td.scalar("e") ** td.scalar("a")
    assert td.parse("I x", dialect="latex", I=(2, 2), x=2) == td.matrix("I", 2, 2) @ td.vector("x", 2)
    assert td.parse(r"\Sigma x", dialect="latex", Σ=(k, k), x=k) == td.matrix("Σ", k, k) @ td.vector("x", k)
    assert td.parse(r"Σ x", dialect="latex", Sigma=(k, k), x=k) == td.matrix("Sigma", k, k) @ td.vector("x", k)
    assert td.parse(r"\pi x", dialect="latex", pi=(k, k), x=k) == td.matrix("pi", k, k) @ td.vector("x", k)
    assert td.parse("xy", dialect="latex", x=(), y=(), xy=()) == td.scalar("xy")
    assert td.parse("x y", dialect="latex", x=(), y=(), xy=()) == td.scalar("x") * td.scalar("y")
    assert td.parse(r"\lambda x", dialect="latex", x=k, **{"lambda": ()}) == td.scalar("lambda") * td.vector("x", k)


@pytest.mark.parametrize(
    ("text", "fault", "words"),
    [
        (r"\partial x", r"\partial", "take td.grad"),
        (r"x^\top A x = 3", "=", "parse one side of it alone"),
        (r"A \foo x", r"\foo", r"The command \foo is not read"),
        (r"a / b x", r"a / b x", r"\frac{a}{b} c or \frac{a}{b c}"),
        (r"A^* x", "^*", r"write ^\top"),
        (r"A^{\dagger} x", r"^{\dagger}", r"write ^\top"),
        (r"\prod_i x_i", r"\prod", "sum of logarithms"),
        (r"A^{-1", None, "ends too early"),
        (r"\frac{a}", None, "ends too early"),
        (r"\left(A x", None, "ends too early"),
        (r"A x)", ")", "closing bracket"),
        (r"A + ", None, "ends too early"),
        (r"\sum x_i", r"\sum x_i", r"\sum_{i,j}"),
        (r"\sum_{i=2}^k x_i", r"\sum_{i=2}^k x_i", "whole axis"),
        (r"A_{ij}^{-1}", r"A_{ij}^{-1}", "an entry of the inverse"),
        (r"x2", "x2", "x_2 for a name"),
        (r"z^\top x", "z", "td.parse(text, z=(k,))"),
        (r"z_{max}^\top x", None, "The name 'z_max' is not known"),
        (r"\operatorname{frob}(A)", "frob", "'frob' is not known"),
        (r"\log", "log", "has no argument"),
        (r"\log_2 a", "log", "is not read"),
        (r"\sin^{-1} a", "sin", "Only a positive power"),
        (r"\|x\|_{q}", r"\|x\|_{q}", "its order"),
        (r"A \times B", r"A \times B", "cross product"),
        (r"x ? y", "?", "no meaning"),
        (r"A_{ij} x_i y_j + x", None, "stands without indices"),
        (r"\sum_j A_{ij} x_j", None, r"'i' stands once in a term: write \sum_i"),
        (r"\left[2 (A_{ij} + B_{ij})\right]_i", None, "'j' stands once in a term"),
        (r"x_i^2", None, "'i' stands once in a term"),
        (r"a + e^{A}", None, "of a matrix") if "expm" not in functions else (r"a + e^{C}", None, "square"),
        (r"A^{(2)}", "^{(2)}", "a label, no power"),
        (r"\log(A)", None, r"\log^{\circ}(A)"),
        (r"\exp(C)", None, r"\exp^{\circ}(A)"),
        (r"A 1", None, r"write \mathbf{1}"),
        (r"2^\top x", None, "A number has no transpose"),
        (r"x^t A x", "^t", r"write ^\top"),
        (r"\rm tr(A)", None, r"{\rm tr}"),
        (r"\mathbb{E}[x]", None, "The E of random variables is not read"),
        (r"\operatorname{frobenus}(A)", "frobenus", "Did you mean 'frobenius'? Known are those that dir(td) lists"),
        (r"x^{\mathsf H} A x", r"^{\mathsf H}", "The conjugate transpose is no part of this language"),
        (r"x^\dagger A x", r"^\dagger", "The conjugate transpose is no part of this language"),
        (r"x_i (A x)_i", None, r"no sum names it: write \sum_i"),
        (r"f(x)", None, "may be a function"),
        (r"\lambda_{\max}(z)", None, "lambda_max(...) may be a function"),
        (r"f_1(x) + f_2(x)", None, "f_2(...) may be a function"),
        (r"\sum_{i<j} A_{ij}", None, "not over pairs"),
        (r"\sum_{i \neq j} A_{ij}", None, "not over pairs"),
        (r"\theta^{(t+1)}", "^{(t+1)}", "a label, no power"),
        (r"h_{t-1}", None, "h_{old} in place of h_{t-1}"),
        (r"P_{k|k-1}", "|", "P_{prior} for P_{k|k-1}"),
        (r"A * B", None, r"A \circ B for that of entries"),
        (r"A \bullet B", None, r"\langle A, B \rangle for the inner product"),
        (r"\mathrm{d}x", r"\mathrm{d}", "is to be declared"),
        (r"A^+ x", "^+", r"\operatorname{pinv}"),
        (r"\|x", None, "ends too early"),
        ("x \\", "\\", "A command follows"),
    ],
)
def test_what_latex_refuses(text: str, fault: str | None, words: str) -> None:
    message = words_of(text, "latex", td.TensorDSLError)
    assert words in message
    if fault and message.count("\n") and "^^" in message.replace(text, ""):
        assert under(message) == fault


@pytest.mark.parametrize(
    "text",
    [r"\sum_{i=1}^n (x_i-\mu)^T\Sigma^{-1}(x_i-\mu)", r"\sum_i \log(1+e^{-y_i w^\top x_i})", r"\sum_i a_i^\top x"],
)
def test_rows_of_data_are_pointed_to_their_matrix(text: str) -> None:
    with pytest.raises(td.TensorDSLError, match="Data that are the rows of a matrix X make X w"):
        td.parse(text, dialect="latex", infer=True)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (r"a + A x y", "A x y"),
        (r"a + (A + C) x", "A + C"),
        (r"2 (A + x^\top) x", r"A + x^\top"),
        (r"x + A^{-1} + B", r"x + A^{-1}"),
        (r"1 + x^2", r"x^2"),
        (r"1 + |x|", r"|x|"),
    ],
)
def test_shapes_that_differ_are_shown_in_the_text(text: str, fault: str) -> None:
    assert under(words_of(text, "latex", td.ShapeError)) == fault


def test_shapes_that_differ_are_shown_in_every_dialect() -> None:
    assert under(words_of("a + A @ x @ C @ y", "numpy", td.ShapeError)) == "A @ x @ C @ y"
    assert under(words_of("a + A @ u + C", "numpy", td.ShapeError)) == "A @ u"
    assert under(words_of("2*(a + x + u)", "numpy", td.ShapeError)) == "a + x + u"
    assert under(words_of("a + 2*(A*x)*C", "matlab", td.ShapeError)) == "2*(A*x)*C"
    assert under(words_of("exp(A*u) + a", "matlab", td.ShapeError)) == "A*u"


@pytest.mark.parametrize(
    "text",
    [
        "{" * 5000 + "x" + "}" * 5000,
        r"\left(" * 5000 + "x" + r"\right)" * 5000,
        "x" + "^x" * 5000,
        r"\exp" * 5000 + " x",
        r"\sum_i" * 5000 + " x_i",
        "x_{" * 3000,
        r"\frac" * 5000,
        "x" * 100_001,
        r"\sqrt{" * 500 + "x" + "}" * 500,
    ],
)
def test_huge_formulas_are_refused(text: str) -> None:
    assert len(words_of(text, "latex", td.TensorDSLError)) < 2000


def test_long_formulas_are_read() -> None:
    assert td.parse("+".join(["x"] * 3000), dialect="latex", x=3) == 3000 * td.vector("x", 3)
    assert td.parse("+".join(["x"] * 3000), dialect="matlab", x=3) == 3000 * td.vector("x", 3)


# --- what is printed reads back -----------------------------------------------------------------------------------


def again(e: td.Expr, form: str) -> td.Expr:
    return td.parse(e.to_latex(form), dialect="latex", **{s.name: s for s in e.symbols})


def expressions() -> list[td.Expr]:
    A, B, C = td.matrix("A", k, k), td.matrix("B", k, k), td.matrix("C", k, m)
    X, x, y = td.matrix("X", m, n), td.vector("x", k), td.vector("y", k)
    a, S, x1, long = td.scalar("a"), td.matrix("Sigma_xy", k, k), td.vector("x1", k), td.matrix("AB", k, k)
    v = td.vector("v", m * n)
    inverse = td.linalg.inv
    return [
        A @ x,
        x @ A @ y,
        A * td.outer(x, x),
        td.jacobian_matrix(A * td.outer(x, x), x),
        td.jacobian_matrix(A * td.outer(x, x), A),
        inverse(A) @ x,
        inverse(A).T @ x,
        inverse(A @ B),
        td.grad(td.logdet(A), A),
        td.linalg.norm(A @ x - y) ** 2,
        td.exp(A @ x),
        td.sigmoid(A @ x),
        td.tanh(a) * x,
        abs(A),
        abs(x),
        abs(a - 1) * x,
        x**2,
        A**2 @ x,
        1 / x,
        a**2 * x / 3,
        1.5e-7 * x,
        (1 + 2j) * x,
        td.sqrt(x),
        td.kron(A, C),
        td.kron(x, y),
        td.vec(X),
        td.commutation(k, m),
        td.trace(A @ B),
        S @ x1,
        long @ x,
        x[1:],
        A[:, 0],
        A[0],
        A[0, 1] * x,
        A[1:, :-1],
        td.grad(td.sum(td.exp(A @ x)), x),
        td.identity(k) + A,
        td.ones(k, 3),
        td.constant([[1, 2], [3, 4.5]]),
        x > 0,
        x @ x,
        td.sum(td.exp(A @ x)),
        2 * td.sum(A, axis=1) - x,
        td.diag(x) @ A,
        td.diagonal(A),
        td.mean(x),
        td.sum(A, axis=0),
        td.khatri_rao(A, B),
        td.unvec(v, (m, n)),
        2**a,
        td.linalg.det(A) * A,
        td.log(td.linalg.det(A)),
        td.exp(td.logdet(A)),
        (A @ x) * y,
        td.einsum("ij,ij,j->i", A, B, x),
    ]


@pytest.mark.parametrize("e", expressions(), ids=str)
@pytest.mark.parametrize("form", ["matrix", "index"])
def test_latex_reads_back(e: td.Expr, form: str) -> None:
    assert again(e, form) == e


@pytest.mark.parametrize("form", ["matrix", "index"])
def test_latex_reads_back_with_common_factors_left_where_they_are(form: str) -> None:
    A, x = td.matrix("A", k, k), td.vector("x", k)
    data = {name: rng.normal(size=(3,) * ("A" in name) + (3,)) for name in ("A", "x", "y", "dA", "dx")}
    y = td.vector("y", k)
    for e in (td.differential(A * td.outer(x, x)), td.grad(td.linalg.norm(A @ x - y), x)):
        assert np.allclose(again(e, form).evaluate(data), e.evaluate(data))


@pytest.mark.parametrize("form", ["matrix", "index"])
def test_latex_of_random_expressions_is_never_read_wrong(form: str) -> None:
    """Most read back; the others are refused. None is read as something else."""
    read = 0
    for seed in range(200):
        case = random_case(seed)
        with np.errstate(all="ignore"):
            e = case.expression()
            try:
                back = again(e, form)
            except (td.ParseError, td.ShapeError, td.UnsupportedError):
                continue
            wanted = e.evaluate(case.data, **DIMS)
            found = back.evaluate(case.data, **DIMS)
        wanted = wanted.reshape(found.shape) if form == "matrix" and found.size == wanted.size else wanted
        assert not np.all(np.isfinite(wanted)) or close(found, wanted), (seed, e.to_latex(form))
        read += 1
    assert read > 150


# --- names without a shape ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dialect", "orders"),
    [
        (r"(X^\top X + \lambda I)^{-1} X^\top y", "latex", {"X": 2, "lambda": 0, "y": 1}),
        (r"\|Ax-b\|_2^2 + \lambda \|x\|_2^2", "latex", {"A": 2, "b": 1, "lambda": 0, "x": 1}),
        (r"\frac12 (x-\mu)^\top \Sigma^{-1}(x-\mu)", "latex", {"x": 1, "mu": 1, "Sigma": 2}),
        (r"w^\top x + b", "latex", {"w": 1, "x": 1, "b": 0}),
        (r"2\lambda I + A", "latex", {"lambda": 0, "A": 2}),
        (r"\sum_{i,j} A_{ij} x_i y_j", "latex", {"A": 2, "x": 1, "y": 1}),
        (r"\Sigma_{xy} x", "latex", {"Sigma_xy": 2, "x": 1}),
        ("norm2(A*x-y)^2 + c*norm2(x)^2", "matlab", {"A": 2, "x": 1, "y": 1, "c": 0}),
        ("x'*A*x + c*sin(y)'*x", "matlab", {"A": 2, "x": 1, "y": 1, "c": 0}),
        ("inv(X'*X + lambda*eye)*X'*y", "matlab", {"X": 2, "lambda": 0, "y": 1}),
        (r"\lambda x^\top x", "latex", {"lambda": 0, "x": 1}),
        (r"\lambda\mu\, x^\top x", "latex", {"lambda": 0, "mu": 0, "x": 1}),
        (r"\frac{1}{2n}\|y - X\beta\|^2", "latex", {"n": 0, "y": 1, "X": 2, "beta": 1}),
        (r"\sigma_{max} x^\top x + \delta", "latex", {"sigma_max": 0, "x": 1, "delta": 0}),
        (r"\alpha A x + \beta y", "latex", {"alpha": 0, "A": 2, "x": 1, "beta": 0, "y": 1}),
        (r"\tanh(W x + b)", "latex", {"W": 2, "x": 1, "b": 1}),
        (r"u v^\top", "latex", {"u": 1, "v": 1}),
        (r"a x^2 + b x + c", "latex", {"a": 0, "x": 0, "b": 0, "c": 0}),
        ("a*b + c", "matlab", {"a": 0, "b": 0, "c": 0}),
        ("(y-X*b)'*(y-X*b)", "matlab", {"y": 1, "X": 2, "b": 1}),
        ("x(1)^2 + X(2,1)", "matlab", {"x": 1, "X": 2}),
        ("y'*K*y", "matlab", {"y": 1, "K": 2}),
        ("yᵀ @ K @ y", "matrix", {"y": 1, "K": 2}),
        (r"\alpha^\top K \alpha", "latex", {"alpha": 1, "K": 2}),
        (r"\delta^\top x + \sigma^2", "latex", {"delta": 1, "x": 1, "sigma": 0}),
        (r"A_{ij} x_i x_j", "latex", {"A": 2, "x": 1}),
        (
            r"\sum_i x_i y_i + \lambda_{max} \operatorname{tr} \Sigma_{xy}",
            "latex",
            {"x": 1, "y": 1, "lambda_max": 0, "Sigma_xy": 2},
        ),
        (r"x_i^\top y_i", "latex", {"x_i": 1, "y_i": 1}),
        (r"W_2 \sigma(W_1 x)", "latex", {"W_2": 2, "W_1": 2, "x": 1}),
        (r"x^\top e^{At} x", "latex", {"x": 1, "A": 2, "t": 0}),
        (r"-\frac12 y^\top K_y^{-1} y - \frac12\log|K_y| - \frac{N}{2}\log(2\pi)", "latex", {"y": 1, "K_y": 2, "N": 0}),
        (
            r"\frac{M}{2}\ln\alpha + \frac{N}{2}\ln\beta - \frac12\ln|A|",
            "latex",
            {"M": 0, "alpha": 0, "N": 0, "beta": 0, "A": 2},
        ),
        (
            r"\frac{1}{(2\pi)^{D/2} |\Sigma|^{1/2}} e^{-\frac12 (x-\mu)^\top \Sigma^{-1} (x-\mu)}",
            "latex",
            {"D": 0, "Sigma": 2, "x": 1, "mu": 1},
        ),
        (
            r"-\frac{n}{2}\log(2\pi\sigma^2) - \frac{1}{2\sigma^2}\sum_{i=1}^n (y_i-\mu)^2",
            "latex",
            {"sigma": 0, "y": 1, "mu": 0},
        ),
        (r"\sum_i w_i (y_i - a - b x_i)^2", "latex", {"w": 1, "y": 1, "a": 0, "b": 0, "x": 1}),
        (r"x - \frac1n \sum_j x_j", "latex", {"x": 1, "n": 0}),
        (
            r"\frac{x - \operatorname{mean}(x)}{\sqrt{\operatorname{var}(x) + \epsilon}}",
            "latex",
            {"x": 1, "epsilon": 0},
        ),
        (
            r"\gamma\circ\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}}+\beta",
            "latex",
            {"gamma": 1, "x": 1, "mu": 1, "sigma": 0, "epsilon": 0, "beta": 1},
        ),
        (r"\frac{q k^\top}{\sqrt d}", "latex", {"q": 1, "k": 1, "d": 0}),
        (r"K_{XX} - K_{Xu} K_{uu}^{-1} K_{uX}", "latex", {"K_XX": 2, "K_Xu": 2, "K_uu": 2, "K_uX": 2}),
        (r"k_{**} - k_*^\top K^{-1} k_\star", "latex", {"k_starstar": 0, "k_star": 1, "K": 2}),
        (r"\lambda_{\max} \hat{\mathbf{x}}^\top \mathbf{\bar{y}}", "latex", {"lambda_max": 0, "x_hat": 1, "y_bar": 1}),
        (r"\begin{bmatrix} \cos t & -\sin t \\ \sin t & \cos t \end{bmatrix} x", "latex", {"t": 0, "x": 1}),
        (r"\begin{vmatrix} a & b \\ c & d \end{vmatrix}", "latex", {"a": 0, "b": 0, "c": 0, "d": 0}),
        (r"(I_n\otimes A + B^\top\otimes I_m)\operatorname{vec}(X)", "latex", {"A": 2, "B": 2, "X": 2}),
        (r"\mathbf{1}^\top e^{X\beta}", "latex", {"X": 2, "beta": 1}),
        ("A @ x + b", "numpy", {"A": 2, "x": 1, "b": 1}),
        ("T[i,j,k]*x[k] -> [i,j]", "numpy", {"T": 3, "x": 1}),
        ("outer(x, y) @ z**c", "numpy", {"x": 1, "y": 1, "z": 1, "c": 1}),
        ("basis(3, 1)*a @ (A*b)", "numpy", {"a": 1, "A": 2, "b": 1}),
        ("unvec(x, (2, 3)) @ (y * B)", "numpy", {"x": 1, "y": 1, "B": 2}),
    ],
)
def test_orders_are_inferred(text: str, dialect: str, orders: dict[str, int]) -> None:
    found = td.parse(text, dialect=dialect, infer=True)
    assert {symbol.name: symbol.ndim for symbol in found.symbols} == orders


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        (r"A_{ij} x_i x_j", lambda A, x, y: x @ A @ x),
        (r"A_{ij} B_{ij}", lambda A, x, y: td.sum(A * td.matrix("B", *A.shape))),
        (r"A_{ii}", lambda A, x, y: td.trace(A)),
        (r"\sum_i x_i y_i", lambda A, x, y: x @ y),
        (r"x_i y_i", lambda A, x, y: x @ y),
        (r"\frac12 x_i A_{ij} x_j - y_i x_i", lambda A, x, y: x @ A @ x / 2 - y @ x),
        (r"\delta_{ij} x_i y_j", lambda A, x, y: x @ y),
    ],
)
def test_letters_that_factors_share_are_indices(text: str, expression: Callable[..., td.Expr]) -> None:
    found = td.parse(text, dialect="latex", infer=True)
    named = {s.name: s for s in found.symbols}
    A = named.get("A", td.matrix("A", k, k))
    x = named.get("x", td.vector("x", k))
    assert found == expression(A, x, named.get("y", x))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r"a_i b_i c_i", r"write \sum_i, or declare the names"),
        (r"A_k B_k x", r"write \sum_k, or declare the names"),
        (r"A_{ij} x_j", r"The index 'i' stands once"),
    ],
)
def test_letters_that_may_be_indices_are_asked_for(text: str, words: str) -> None:
    with pytest.raises(td.ParseError) as caught:
        td.parse(text, dialect="latex", infer=True)
    assert words in str(caught.value)


@pytest.mark.parametrize(("dialect", "text"), [("latex", r"(y - A x)^\top(y-Ax)"), ("matlab", "(y-A*x)'*(y-A*x)")])
@pytest.mark.parametrize("shape", [(k,), (k, 1)])
def test_a_column_may_be_declared_as_a_matrix(dialect: str, text: str, shape: tuple[Any, ...]) -> None:
    found = td.parse(text, dialect=dialect, A=(k, m), x=(m,), y=shape)
    data = {"A": C, "x": u, "y": y.reshape([3] * len(shape[:1]) + [1] * (len(shape) - 1))}
    assert found.shape == ()
    assert np.isclose(found.evaluate(data), ((y - C @ u) ** 2).sum())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("norm(x, 1)", np.abs(x).sum()),
        ("max(x, 0)", x.max()),
        ("softmax(x, 0)", np.exp(x) / np.exp(x).sum()),
        ("logsumexp(x, axis=0)", np.log(np.exp(x).sum())),
        ("dot(x, y) + inner(x, y)", 2 * x @ y),
        ("exp(A)", np.exp(A)),
        ("slogdet(A)[1]", np.log(det(A))),
        ("eigh(A + Aᵀ)[0]", np.linalg.eigvalsh(A + A.T)),
    ],
)
def test_the_matrix_dialect_has_the_functions_of_numpy(text: str, wanted: Any) -> None:
    check(text, "matrix", wanted)


def test_every_function_has_a_text() -> None:
    """What is public and makes an expression can be called in a text, or the text says why not."""
    for name in (*td.__all__, *(name for name in dir(td.linalg) if not name.startswith("_"))):
        made = getattr(td, name, None) or getattr(td.linalg, name)
        if name in functions or not callable(made) or isinstance(made, type):
            continue
        message = words_of(f"{name}(A)", "numpy")
        assert name not in ("slogdet", "eigh") or "take one of them" in message
        assert name not in ("grad", "jacobian", "hvp") or "Derivatives are not written in a text" in message


def test_a_vector_that_cannot_be_one_is_a_scalar() -> None:
    found = td.parse("s * ones(2, 3) + s * ones(2, 4)[:, 1:]", infer=True)
    assert {symbol.name: symbol.shape for symbol in found.symbols} == {"s": (3,)}
    found = td.parse("sum(s * ones(2, 3)) + sum(s * ones(2, 4))", infer=True)
    assert {symbol.name: symbol.shape for symbol in found.symbols} == {"s": ()}


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        (r"\begin{bmatrix} A & B \\ C & D \end{bmatrix}", "latex"),
        ("block([[A, B], [C, D]])", "numpy"),
        ("block([[A, B], [C, D]])", "matrix"),
        ("[A, B; C, D]", "matlab"),
    ],
)
def test_blocks_lie_in_rows_and_columns(text: str, dialect: str) -> None:
    found = {s.name: s.shape for s in td.parse(text, dialect=dialect, infer=True).symbols}
    assert len({size for shape in found.values() for size in shape}) == 4
    assert found["A"][0] == found["B"][0]
    assert found["A"][1] == found["C"][1]
    assert found["D"] == (found["C"][0], found["B"][1])
    ragged = td.parse(text, dialect=dialect, A=(2, 2), B=(2, 3), C=(3, 3), D=(3, 2))
    assert ragged.shape == (5, 5)
    bordered = td.parse(r"\begin{bmatrix} A & b \\ c^\top & d \end{bmatrix}", dialect="latex", infer=True)
    assert {s.name: s.ndim for s in bordered.symbols} == {"A": 2, "b": 1, "c": 1, "d": 0}


def test_k_with_two_sizes_is_a_commutation_matrix() -> None:
    X = td.matrix("X", k, k)
    text = r"(I_{k} \otimes X) K_{k, k} + I_{k} \otimes X"
    wanted = td.kron(td.identity(k), X) @ td.commutation(k, k) + td.kron(td.identity(k), X)
    assert td.parse(text, dialect="latex", X=X) == wanted
    assert td.parse("K_{p,q} K_{q,p}", dialect="latex", infer=True).symbols == frozenset()
    for kernel in (r"\sum_{p,q} K_{p,q} a_p a_q", "K_{ij} a_i a_j", "K_{ii}", r"\sum_k K_{k,k}"):
        assert "K" in {s.name for s in td.parse(kernel, dialect="latex", infer=True).symbols}


@pytest.mark.parametrize("text", [r"\operatorname{Tr}[\rho\ln\rho]", r"\operatorname{tr}(x)", r"\det(a)"])
def test_a_trace_of_bare_names_asks_for_their_shapes(text: str) -> None:
    with pytest.raises(td.ParseError, match=r"is of a matrix, and .* give its shape"):
        td.parse(text, dialect="latex", infer=True)


def test_a_name_that_is_not_inferred_is_asked_for() -> None:
    for dialect, text in (("numpy", "A @ q"), ("matrix", "A @ q"), ("matlab", "A*q"), ("latex", "A q")):
        message = words_of(text, dialect)
        assert "td.parse(text, q=(k,))" in message
        assert under(message) == "q"


# --- what the NumPy dialect takes ---------------------------------------------------------------------------------


def test_sizes_given_as_symbols_are_positions() -> None:
    p = td.dim("p")
    x, A = td.vector("x", k), td.matrix("A", k, m)
    assert td.parse("x[p]", x=(k,), p=p) == x[p]
    assert td.parse("A[p, 1:]", A=(k, m), p=p) == A[p, 1:]
    assert td.parse("A[p,j] -> [j]", A=(k, m), p=p) == A[p]
    assert td.parse("A[p,j] -> [p,j]", A=(k, m), p=p) == A
    assert td.parse("basis(k, p) * n", p=p, n=n, x=k) == td.basis(k, p) * n
    assert td.parse("x", x=k) == x
    assert td.parse("e_p^\\top x", dialect="latex", x=k, p=p) == x[p]
    assert float(td.parse("x[p]", x=(k,), p=p).evaluate(x=[1.0, 2.0, 4.0], p=2)) == 4.0


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A function that records what it was given, under the names of parameters that NumPy's functions have."""
    seen: dict[str, Any] = {}

    def gather(arrays: Any, axis: Any = 0, *, ord: Any = None, shape: Any = None, where: Any = None) -> td.Expr:
        seen.update(arrays=arrays, axis=axis, ord=ord, shape=shape, where=where)
        return td.zeros(2)

    monkeypatch.setitem(functions, "gather", gather)
    return seen


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        ("gather([x, 2*y])", "arrays", lambda x, y, A: [x, 2 * y]),
        ("gather((x, y))", "arrays", lambda x, y, A: [x, y]),
        ("gather([[A, A.T], [2*A, A]])", "arrays", lambda x, y, A: [[A, A.T], [2 * A, A]]),
        ("gather([1, 2])", "arrays", lambda x, y, A: td.constant([1, 2])),
        ("gather([x, [1, 2, 3]])", "arrays", lambda x, y, A: [x, td.constant([1, 2, 3])]),
        ("gather(None)", "arrays", lambda x, y, A: None),
        ("gather(x, -1)", "axis", lambda x, y, A: -1),
        ("gather(x, (0, 1))", "axis", lambda x, y, A: (0, 1)),
        ("gather(x, axis=None)", "axis", lambda x, y, A: None),
        ("gather(x, ord=1.5)", "ord", lambda x, y, A: 1.5),
        ("gather(x, ord=inf)", "ord", lambda x, y, A: float("inf")),
        ("gather(x, ord=-inf)", "ord", lambda x, y, A: -float("inf")),
        ("gather(x, ord='fro')", "ord", lambda x, y, A: "fro"),
        ("gather(x, shape=(m, k*m - 1))", "shape", lambda x, y, A: (m, k * m - 1)),
        ("gather(x, shape=-1)", "shape", lambda x, y, A: -1),
        ("gather(x, where=x > 0)", "where", lambda x, y, A: x > 0),
    ],
)
def test_arguments(gathered: dict[str, Any], text: str, name: str, wanted: Callable[..., Any]) -> None:
    x, y, A = td.vector("x", k), td.vector("y", k), td.matrix("A", k, k)
    td.parse(text, x=x, y=y, A=A)
    assert gathered[name] == wanted(x, y, A)


def test_positions_in_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(td.Expr, "__getitem__", lambda node, key: seen.append(key) or node)
    td.parse("A[[0, 2, -1], 1]", A=(k, k))
    (found, one), *_ = seen
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [0, 2, -1]
    assert found.dtype.kind == "i"
    assert one == 1


def test_a_function_of_two_values() -> None:
    check("slogdet(A)[1] * slogdet(-A)[0]", "numpy", -np.log(det(A)))
    assert "several values" in words_of("slogdet(A)", "numpy") or "take one" in words_of("slogdet(A)", "numpy")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("concatenate([x, 2*y], axis=0)", np.concatenate([x, 2 * y])),
        ("stack([x, y], axis=1)", np.stack([x, y], axis=1)),
        ("block([[A, C], [C.T, ones(m, m)]])", np.block([[A, C], [C.T, np.ones((4, 4))]])),
        ("reshape(C, (m, k))", C.reshape(4, 3)),
        ("reshape(C, (k*m,))", C.reshape(-1)),
        ("swapaxes(C, 0, 1)", C.T),
        ("expand_dims(x, 1)", x[:, None]),
        ("var(C, axis=0, ddof=1)", C.var(axis=0, ddof=1)),
        ("max(C, axis=1)", C.max(axis=1)),
        ("prod(x)", x.prod()),
        ("where(x > 1, x, -y)", np.where(x > 1, x, -y)),
        ("clip(x, None, 1)", np.minimum(x, 1)),
        ("maximum(x, y)", np.maximum(x, y)),
        ("linalg.norm(x, ord=1)", np.abs(x).sum()),
        ("norm(x, inf)", x.max()),
        ("matrix_power(A, -2)", inv(A) @ inv(A)),
        ("logsumexp(x)", np.log(np.exp(x).sum())),
        ("log1p(expm1(x))", x),
        ("tril(A, -1)", np.tril(A, -1)),
    ],
)
def test_what_the_functions_take(text: str, wanted: Any) -> None:
    if text.partition("(")[0].removeprefix("linalg.") not in functions:
        pytest.skip("no such function")
    check(text, "numpy", wanted)


@pytest.mark.parametrize(
    ("text", "dialect", "wanted"),
    [
        ("norm1(x - y)", "matlab", np.abs(x - y).sum()),
        (r"\|x - y\|_1 + \|x\|_\infty", "latex", np.abs(x - y).sum() + x.max()),
        ("[A C; C' ones(m)]", "matlab", np.block([[A, C], [C.T, np.ones((4, 4))]])),
        (r"\begin{bmatrix} A & C \\ C^\top & I \end{bmatrix}", "latex", np.block([[A, C], [C.T, np.eye(4)]])),
        (r"\begin{pmatrix} a & x^\top \\ x & A \end{pmatrix}", "latex", np.block([[a, x[None]], [x[:, None], A]])),
        (r"\max(a, b)", "latex", max(a, b)),
    ],
)
def test_what_the_dialects_have_from_the_functions(text: str, dialect: str, wanted: Any) -> None:
    if not {"block", "max"} <= functions.keys():
        pytest.skip("no such function")
    check(text, dialect, wanted)


def test_equality_between_expressions() -> None:
    if "equal" in functions:
        found = td.parse("x == y", x=3, y=3)
        assert found.evaluate(x=np.array([1.0, 2, 3]), y=np.array([1.0, 0, 3])).tolist() == [True, False, True]
        found = td.parse("x != 2*y", x=3, y=3)
        assert found.evaluate(x=np.array([2.0, 2, 3]), y=np.array([1.0, 0, 3])).tolist() == [False, True, True]
    else:
        with pytest.raises(td.ParseError, match="== has no meaning for expressions here"):
            td.parse("x == y", x=3, y=3)


@pytest.mark.parametrize("dialect", ["numpy", "matrix", "matlab", "latex"])
def test_the_operators_of_mathematics_work_in_all_dialects(dialect: str) -> None:
    check("A ∘ B", dialect, A * B)
    check("A ⊙ B", dialect, A * B)
    check("A ⊗ C", dialect, np.kron(A, C))
    check("Cᵀ", dialect, C.T)
    check("A − B", dialect, A - B)


PARTS = {
    "latex": [
        "A", "x", "a", "C", "y", "^T", "^{-1}", "^2", "_i", "_{ij}", r"\sum_i ", r"\log", r"\det", r"\frac", "{",
        "}", "(", ")", r"\left[", r"\right]", "_{i,j}", "+", "-", r"\circ ", r"\otimes ", "/", "2", "1.5", r"\sqrt",
        r"\mathbf{1}", "I", "e", "^{x}", "_p", "_{i<k}", r"\operatorname{tr}", r"\exp", ",", r"\cdot ", r"\times ",
        "0", "&", "\\\\", "[", "]", r"\delta_{ij}", "_{0}", "_{:,0}", "=", ":", "'", r"\begin{bmatrix}",
        r"\end{bmatrix}", r"\left", r"\right.", "\\", "$", "~", "10^{3}", r"\langle", r"\rangle", "|", r"\|",
        "K", "K_{mn}", r"\mathbf{", r"{\bf ", r"\exp^{\circ}", "1_n", "11^T", "z_i", "w_{ij}", "^t", r"\rm",
    ],
    "matlab": [
        "A", "x", "a", "C", "y", "'", ".'", "^2", ".^2", "*", ".*", "/", "\\", "./", "+", "-", "(", ")", "[", "]",
        ";", " ", ",", "eye", "vector(1)", "tr(", "inv(", "x(1)", "A(:,1)", "2", "1.", "norm2(", "sum(", "==",
        "x(end)", ":", "sum(C,", "'fro'", "[]", "norm(", "max(", "C(", "end", "reshape(", "size(", "%", "1:2",
    ],
    "numpy": [
        "A", "x", "a", "C", "y", ".T", "**2", "*", "@", "/", "+", "-", "(", ")", "[", "]", ":", ",", "tr(", "x[0]",
        "[i,j]", "->", "sum[i](", "2", "1.", "norm(", "==", "None", "True", "axis=", "block([[", "'a'",
    ],
}  # fmt: skip


@pytest.mark.parametrize("dialect", PARTS)
def test_whatever_is_written_is_read_or_refused(dialect: str) -> None:
    choose = np.random.default_rng(3)
    refused = 0
    for _ in range(1500):
        text = "".join(choose.choice(PARTS[dialect], size=choose.integers(1, 8)))
        try:
            assert isinstance(td.parse(text, dialect=dialect, **SHAPES), td.Expr)
        except td.TensorDSLError:
            refused += 1
    assert 100 < refused < 1500


@pytest.mark.parametrize(
    "text", [r"\det(A \otimes B)", r"\operatorname{tr}(A \otimes B)", r"\operatorname{tr} (A \otimes B)^{-1}"]
)
def test_factors_of_a_square_kronecker_product_are_square(text: str) -> None:
    found = td.parse(text, dialect="latex", infer=True)
    assert all(symbol.shape[0] == symbol.shape[1] for symbol in found.symbols)
    assert len(found.dims) == 2


def test_bars_around_a_column_and_zeros_with_sizes() -> None:
    a, b, x, A = td.scalar("a"), td.scalar("b"), td.vector("x", 3), td.matrix("A", 3, 3)
    column = td.parse(r"\begin{Vmatrix} a \\ b \end{Vmatrix}", dialect="latex", a=a, b=b)
    assert column.evaluate(a=3.0, b=4.0) == 5
    assert td.parse(r"x + 0_{3}", dialect="latex", x=x) == x
    assert td.parse(r"A + 0_{3 \times 3}", dialect="latex", A=A) == A
