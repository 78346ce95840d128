"""Text to expression: the grammar, the sizes that a text leaves open, and what bad text gets."""

from __future__ import annotations

import numpy as np
import pytest

import tensordsl as td

k, m, n = td.dims("k m n")
a, b = td.scalar("a"), td.scalar("b")
x, y, u = td.vector("x", k), td.vector("y", k), td.vector("u", m)
A, B, C, X = td.matrix("A", k, k), td.matrix("B", k, k), td.matrix("C", k, m), td.matrix("X", m, n)
T, v = td.tensor("T", k, m, n), td.vector("v", m * n)
SYMBOLS = {s.name: s for s in (a, b, x, y, u, A, B, C, X, T, v)}


def parse(text: str, **more: object) -> td.Expr:
    return td.parse(text, **SYMBOLS | more)


def matrix(text: str, **more: object) -> td.Expr:
    return td.parse(text, dialect="matrix", **SYMBOLS | more)


# --- the NumPy dialect --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("x", x),
        ("  ( x )  ", x),
        ("x + y * x", x + y * x),
        ("x - y - x*y", x - y - x * y),
        ("x - (y - x)", 2 * x - y),
        ("-x**2", -(x**2)),
        ("(-x)**2", x**2),
        ("2**-a", 2 ** (-a)),
        ("2**3**2", td.constant(512)),
        ("a**b**2", a ** (b**2)),
        ("--x", x),
        ("+x", x),
        ("x - -y", x + y),
        ("-x @ A", -(x @ A)),
        ("a / b / 2", a / b / 2),
        ("a / b * 2", 2 * a / b),
        ("6 / 4 * x", 3 * x / 2),
        ("x * y @ A", (x * y) @ A),
        ("A @ x * y", (A @ x) * y),
        ("A @ (x * y)", A @ (x * y)),
        ("2 * A @ B", 2 * (A @ B)),
        ("A.T @ x", A.T @ x),
        ("A.T.T", A),
        ("A.T[0]", A[:, 0]),
        ("A[0].T", A[0]),
        ("-A.T", -A.T),
        ("x.T**2", x**2),
        ("1e-3 * x + .5 + 2.", 1e-3 * x + 2.5),
        ("x > 0", x > 0),
        ("x <= 2*y", x <= 2 * y),
        ("(x >= y) * x", (x >= y) * x),
        ("abs(x) < 1", abs(x) < 1),
    ],
)
def test_operators_bind_as_in_python(text: str, expression: td.Expr) -> None:
    assert parse(text) == expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("A ∘ B", A * B),
        ("A ⊙ B", A * B),
        ("A · B", A * B),
        ("A ⊗ C", td.kron(A, C)),
        ("Aᵀ", A.T),
        ("A^T", A.T),
        ("A^⊤ @ x", A.T @ x),
        ("x − y", x - y),
        ("−x", -x),
        ("A ∘ B ⊗ C", td.kron(A * B, C)),
        ("A @ Bᵀ ∘ A", (A @ B.T) * A),
    ],
)
def test_mathematical_operators(text: str, expression: td.Expr) -> None:
    assert parse(text) == expression


def test_operators_for_products_have_one_level() -> None:
    assert parse("A * B @ A ∘ B") == ((A * B) @ A) * B
    assert parse("A @ B ⊗ C") == td.kron(A @ B, C)
    assert parse("A ⊗ (B @ C)") == td.kron(A, B @ C)
    with pytest.raises(td.ShapeError, match="matrix product"):
        parse("A ⊗ B @ C")


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("A[0]", A[0]),
        ("A[0, 1]", A[0, 1]),
        ("A[:, 1]", A[:, 1]),
        ("A[1:, :-1]", A[1:, :-1]),
        ("x[::-1]", x[::-1]),
        ("x[1:]*x[:-1]", x[1:] * x[:-1]),
        ("A[-1]", A[-1]),
        ("x[-3:-1]", x[-3:-1]),
        ("x[None]", x[None]),
        ("x[:, None] * y", x[:, None] * y),
        ("x[k - 1]", x[-1]),
        ("x[:k - 1]", x[:-1]),
        ("A[0][1]", A[0][1]),
        ("(A @ x)[1:]", (A @ x)[1:]),
        ("A[k - 2:, 0]", A[-2:, 0]),
    ],
)
def test_slices_and_positions(text: str, expression: td.Expr) -> None:
    assert parse(text) == expression


def test_slices_of_known_sizes() -> None:
    t = td.vector("t", 7)
    cases = {
        "t[5:1:-2]": t[5:1:-2],
        "t[::2]": t[::2],
        "t[::-2]": t[::-2],
        "t[-2::-1]": t[-2::-1],
        "t[6:0:-3]": t[6:0:-3],
        "t[3:3]": t[3:3],
    }
    for text, expression in cases.items():
        assert td.parse(text, t=7) == expression, text


@pytest.mark.parametrize("prefix", ["", "np.", "td."])
@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("exp(x)", td.exp(x)),
        ("outer(x, u)", td.outer(x, u)),
        ("kron(A, C)", td.kron(A, C)),
        ("trace(A)", td.trace(A)),
        ("linalg.inv(A)", td.linalg.inv(A)),
        ("inv(A)", td.linalg.inv(A)),
        ("linalg.norm(x)", td.linalg.norm(x)),
        ("sum(A)", td.sum(A)),
        ("sum(A, axis=0)", td.sum(A, axis=0)),
        ("sum(A, 1)", td.sum(A, axis=1)),
        ("sum(T, axis=(0, -1), keepdims=True)", td.sum(T, axis=(0, -1), keepdims=True)),
        ("mean(A, axis=-1)", td.mean(A, axis=-1)),
        ("transpose(T, (2, 0, 1))", td.transpose(T, (2, 0, 1))),
        ("tensordot(T, X, axes=([1, 2], [0, 1]))", td.tensordot(T, X, axes=([1, 2], [0, 1]))),
        ("tensordot(T, X, 2)", td.tensordot(T, X, 2)),
        ("vec(X)", td.vec(X)),
        ("unvec(v, (m, n))", td.unvec(v, (m, n))),
        ("identity(k) @ x", x),
        ("ones(k, m)", td.ones(k, m)),
        ("zeros(k) + x", x),
        ("basis(k, 1)", td.basis(k, 1)),
        ("diag(x)", td.diag(x)),
        ("linalg.solve(A, x)", td.linalg.solve(A, x)),
        ("logdet(A)", td.logdet(A)),
        ("power(x, 3)", x**3),
        ("exp (x)", td.exp(x)),
        ("exp(x,)", td.exp(x)),
        ("dot(x, A)", td.dot(x, A)),
        ("khatri_rao(A, B)", td.khatri_rao(A, B)),
        ("hadamard(A, B)", A * B),
        ("constant([[1, 2.5], [-3, 0]])", td.constant([[1, 2.5], [-3, 0]])),
        ("constant(3) * a", 3 * a),
    ],
)
def test_functions(prefix: str, text: str, expression: td.Expr) -> None:
    assert parse(prefix + text) == expression


def test_short_names() -> None:
    assert parse("tr(A)") == td.trace(A)
    assert parse("eye(k) @ x") == x
    assert parse("otimes(A, C)") == td.kron(A, C)


def test_the_size_of_a_symbol_is_a_number() -> None:
    assert parse("sum(x) / k") == td.sum(x) / k
    assert parse("k * m") == td.constant(1) * (k * m)


def test_lists_are_constants() -> None:
    assert td.parse("t * [1, -2, 3e2]", t=3) == td.vector("t", 3) * np.array([1, -2, 3e2])


@pytest.mark.parametrize(
    "text",
    [
        'einsum("ij,j->i", A, x)',
        'einsum("ij,j -> i", A, x)',
        "einsum('ij,j', A, x)",
        'np.einsum("ij,j->i", A, x)',
    ],
)
def test_einsum(text: str) -> None:
    assert parse(text) == A @ x


def test_einsum_says_more_than_numpy() -> None:
    assert parse('einsum("i->ii", x)') == td.diag(x)
    assert parse('einsum("i->ij", x, j=m)') == td.outer(x, td.ones(m))
    assert parse('einsum("ij->(ji)", X)') == td.vec(X)
    assert parse('einsum("(ji)->ij", v, i=m)') == td.unvec(v, (m, n))
    assert parse('einsum("->ii", i=k)') == td.identity(k)
    assert parse('einsum("i->i()", x)').shape == (k, 1)


# --- index notation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("A[i,j]*x[j] -> [i]", A @ x),
        ("A[i,j]*x[i]*y[j]", x @ A @ y),
        ("A[i,j]*x[i]*y[j] -> []", x @ A @ y),
        ("A[i,j] -> [j,i]", A.T),
        ("A[i,i]", td.trace(A)),
        ("A[i,i] -> [i]", td.diagonal(A)),
        ("A[i,0] -> [i]", A[:, 0]),
        ("A[i,j] + B[j,i] -> [i,j]", A + B.T),
        ("A[i,j]*x[j] - x[i] -> [i]", A @ x - x),
        ("-x[i] -> [i]", -x),
        ("2*x[i]/a -> [i]", 2 * x / a),
        ("x[i]**2", x @ x),
        ("exp(x[i]) -> [i]", td.exp(x)),
        ("exp(sum[j](A[i,j]*x[j])) -> [i]", td.exp(A @ x)),
        ("sum[i,j](A[i,j]) * x[l] -> [l]", td.sum(A) * x),
        ("1/sum[i](exp(x[i]))", 1 / td.sum(td.exp(x))),
        ("x[i] > y[i] -> [i]", x > y),
        ("X[i,j] -> [(j,i)]", td.vec(X)),
        ("v[(j,i)] -> [i:m,j]", td.unvec(v, (m, n))),
        ("A[i,j]*C[p,q] -> [(i,p),(j,q)]", td.kron(A, C)),
        ("x[1:][i]*x[:-1][i] -> [i]", x[1:] * x[:-1]),
        ("inv(A)[j,i] -> [i,j]", td.linalg.inv(A).T),
        ("(A[i,j]*x[j] -> [i])[1:]", (A @ x)[1:]),
        ("norm(A[i,j]*x[j] -> [i])", td.linalg.norm(A @ x)),
        ("x[i] -> [i,()]", x[:, None]),
        ("T[i,j,l]*x[i] -> [j,l]", td.einsum("ijl,i->jl", T, x)),
        ("x[i]*u[j] -> [i,j]", td.outer(x, u)),
    ],
)
def test_index_notation(text: str, expression: td.Expr) -> None:
    assert parse(text) == expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("δ[i,j] -> [i:k,j]", td.identity(k)),
        ("delta[i,j] -> [i:k,j:k]", td.identity(k)),
        ("x[i]*δ[i,j] -> [i,j]", td.diag(x)),
        ("δ[i,j]*x[j] -> [i]", x),
        ("δ[i,1] -> [i:k]", td.basis(k, 1)),
        ("x[i]*δ[i,1]", x[1]),
        ("1 -> [i:k,j:3]", td.ones(k, 3)),
        ("x[i] -> [i,j:m]", td.outer(x, td.ones(m))),
        ("δ[j,2*i + 1]*t[j] -> [i:2]", td.vector("t", 5)[1:5:2]),
        ("δ[j,4 - i]*t[j] -> [i:5]", td.vector("t", 5)[::-1]),
        ("sum[j:m](x[i]) -> [i]", m * x),
        ("x[i] + sum[j](x[i]*y[j]) -> [i]", x + x * td.sum(y)),
        ("sum[j](x[i] + y[j]) -> [i]", k * x + td.sum(y)),
    ],
)
def test_deltas_and_sizes(text: str, expression: td.Expr) -> None:
    assert parse(text, t=5) == expression


def test_a_shifted_delta_is_a_slice() -> None:
    assert td.parse("M[i,l]*δ[l,i + 1] -> [i]", M=(3, 4)) == td.einsum("ii->i", td.matrix("M", 3, 4)[:, 1:])


def test_index_names_are_free() -> None:
    """An index may be called like a size, a function or a symbol."""
    assert parse("A[k,m]*x[m] -> [k]") == A @ x
    assert parse("A[x,y]*x[y] -> [x]") == A @ x
    assert parse("A[sum,exp]*x[exp] -> [sum]") == A @ x
    assert parse("A[i1,j_2]*x[j_2] -> [i1]") == A @ x
    assert parse("A[β,j]*x[j] -> [β]") == A @ x


# --- the matrix dialect -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("A @ x", A @ x),
        ("xᵀ @ A @ y", x @ A @ y),
        ("x.T @ x", x @ x),
        ("x @ yᵀ", td.outer(x, y)),
        ("xᵀ", x[None]),
        ("A ∘ (x @ yᵀ)", A * td.outer(x, y)),
        ("x ∘ y", x * y),
        ("vec(X)", td.vec(X)),
        ("diag(x) @ A", td.diag(x) @ A),
        ("diag(A)", td.diagonal(A)),
        ("tr(A)", td.trace(A)),
        ("exp(A @ x)", td.exp(A @ x)),
        ("2 * A @ x", 2 * (A @ x)),
        ("a*x", a * x),
        ("A + 2*I", A + 2 * td.identity(k)),
        ("I @ x", x),
        ("I(k) ⊗ I(m)", td.identity(k * m)),
        ("K(m, n) @ vec(X)", td.vec(X.T)),
        ("x ⊗ u", td.kron(x, u)),
        ("(x ⊗ I + I ⊗ x) @ y", td.kron(x, y) + td.kron(y, x)),
        ("diag(vec(A)) @ (x ⊗ I + I ⊗ x)", td.jacobian_matrix(A * td.outer(x, x), x)),
        ("x[1:]", x[1:]),
        ("A[:, 0]", A[:, 0]),
        ("x[0]", x[0]),
        ("norm(x)", td.linalg.norm(x)),
        ("inv(A) @ x", td.linalg.inv(A) @ x),
        ("A⁻¹ @ x", td.linalg.inv(A) @ x),
        ("(A @ A)⁻ᵀ @ x", td.linalg.inv(A @ A).T @ x),
        ("det(A)*inv(A)ᵀ", td.linalg.det(A) * td.linalg.inv(A).T),
        ("unvec(v, (m, n))", td.unvec(v, (m, n))),
        ('einsum("ij,i,j->ij", A, x, x)', A * td.outer(x, x)),
        ("sum(x)", td.sum(x)),
        ("ones(k)ᵀ @ x", td.sum(x)),
        ("e_pᵀ @ A", td.basis(k, td.dim("p"))[None] @ A),
        ("x / norm(x)", x / td.linalg.norm(x)),
    ],
)
def test_matrix_notation(text: str, expression: td.Expr) -> None:
    assert matrix(text) == expression


def test_a_symbol_comes_before_a_special_name() -> None:
    eye = td.matrix("I", 2, 2)
    assert td.parse("I @ x", dialect="matrix", I=eye, x=2) == eye @ td.vector("x", 2)
    assert td.parse("e_k", dialect="matrix", e_k=(3,)) == td.vector("e_k", 3)


# --- what the text leaves open ------------------------------------------------------------------------------------


def test_a_shape_may_be_a_size_a_tuple_or_a_symbol() -> None:
    assert td.parse("x", x=k) == td.parse("x", x=(k,)) == td.parse("x", x=x) == td.parse("x", x="k") == x
    assert td.parse("A @ x", A=("k", "m"), x="m").shape == (k,)
    assert td.parse("a", a=()) == a
    assert td.parse("exp(z)", z=x + y) == td.exp(x + y)


def test_unknown_sizes_are_solved_for() -> None:
    assert matrix("(Cᵀ ⊗ I) @ v", v=(k * n,)) == td.kron(C.T, td.identity(n)) @ td.vector("v", k * n)
    assert matrix("K(k, m) @ (I ⊗ C) @ v", v=(m * m,)).shape == (k * m,)
    assert matrix("I + x @ xᵀ") == td.identity(k) + td.outer(x, x)
    assert matrix("(x ⊗ I) @ u") == td.kron(x, u)
    assert parse("(δ[i,j] + A[i,j]) -> [i,j]") == A + td.identity(k)


def test_sizes_that_cannot_be_told_are_named() -> None:
    with pytest.raises(td.ShapeError, match=r"I\(k\) for the identity of size k"):
        matrix("I")
    with pytest.raises(td.ShapeError, match=r"\[i:k\] after the arrow"):
        parse("δ[i,j] -> [i,j]")


def test_shapes_are_inferred() -> None:
    found = td.parse("A * outer(x, x)", infer=True)
    assert found.shape == (k, k)
    assert {s.name: s.shape for s in found.symbols} == {"A": (k, k), "x": (k,)}
    found = td.parse("A @ B @ x - y", infer=True)
    assert sorted(len(s.shape) for s in found.symbols) == [1, 1, 2, 2]
    assert len(found.dims) == 3
    assert td.parse("A @ x", infer=True, x=(4,)).shape[0] != 4
    assert {s.name: s.shape for s in td.parse("A @ x", infer=True, x=(4,)).symbols}["A"][1] == 4
    assert td.parse("x @ A @ x", infer=True).shape == ()
    assert {s.name: s.shape for s in td.parse("logdet(A) + x @ x", infer=True).symbols}["A"] == (k, k)


# --- bad text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "under", "words"),
    [
        ("A @@ x", "@ x", "Expected is an operator, an operand or a closing bracket"),
        ("A x", "x", "write products with \\* or @"),
        ("(A @ x", None, "ends too early"),
        ("A @", None, "ends too early"),
        ("A[i,", None, "ends too early"),
        ("A @ x)", ")", "cannot be read here"),
        ("x ? y", "? y", "An expression is made of names"),
        ("x = y", "= y", "cannot be read"),
        ("x' + y", "' + y", "cannot be read"),
        ("x == y == x", "== x", "cannot be read"),
        ("x.shape", ".shape", "attributes other than .T do not exist"),
        ("x.__class__", ".__class__", "attributes other than .T"),
        ("x; y", "; y", "cannot be read"),
        ("lambda x: x", "x: x", "cannot be read"),
        ("x -> ", None, "ends too early"),
        ("x[i] -> [i", None, "ends too early"),
        ("'text", "'text", "cannot be read"),
        ("3 4", "4", "cannot be read"),
        ("2x", "x", "cannot be read"),
    ],
)
def test_what_is_no_expression(text: str, under: str | None, words: str) -> None:
    with pytest.raises(td.ParseError, match=words) as caught:
        parse(text)
    lines = str(caught.value).splitlines()
    place = next(p for p, line in enumerate(lines) if set(line.strip()) == {"^"})
    shown, caret = lines[place - 1], lines[place]
    assert text.strip() in shown or "…" in shown
    start = caret.index("^")
    assert shown[start:].startswith(under or "") if under else start >= len(shown.rstrip())


@pytest.mark.parametrize(
    ("text", "under", "words"),
    [
        ("A @ z", "z", "The name 'z' is not known; known symbols are .*x=\\(k,\\)"),
        ("frobnicate(x)", "frobnicate", "The function 'frobnicate' is not known.* Known are those that dir"),
        ("__import__('os')", "__import__", "is not known"),
        ("eval('1')", "eval", "is not known"),
        ("exp", None, "exp is a function: call it, as in exp\\(x\\)"),
        ("exp(x, y)", None, "exp"),
        ("sum(x, axes=0)", None, "does not take these arguments"),
        ("'text'", None, "stands where an expression is expected"),
        ("x + 'text'", None, "stands where an expression is expected"),
        ("einsum(x)", None, "einsum begins with its subscripts"),
        ("A[i,j]*x", None, "stands without indices beside an indexed term"),
        ("A[i,j] @ x[j]", None, "does not go with index notation"),
        ("sum(A[i,j]*x[j])", None, "names its indices: sum\\[j\\]"),
        ("sum[l](A[i,j]) -> [i,j]", None, "The index l of a sum stands in no term"),
        ("A[i,j] -> [i,l]", None, "The index l"),
        ("A[i,j] -> [i,i]", None, "named twice"),
        ("A[i] -> [i]", None, "takes 2 indices"),
        ("A[i,j,l]", None, "takes 2 indices"),
        ("C[i,j]*x[j]", None, "The index j has the size"),
        ("δ[i]", None, "δ has two indices"),
        ("identity(x)", None, "A size is made of whole numbers and dimensions"),
        ("ones(1.5)", None, "whole number or a size"),
        ("unvec(x, (m, n))", None, "takes a vector of size"),
        ("constant([1, x])", None, "A list holds numbers"),
        ("[1, [2, 3]] + x", None, "rectangular"),
        ("A / 0", None, "Division"),
        ("A @ u", None, "matrix product"),
        ("x + u", None, "Cannot add"),
    ],
)
def test_what_means_nothing(text: str, under: str | None, words: str) -> None:
    with pytest.raises(td.TensorDSLError, match=words) as caught:
        parse(text)
    lines = str(caught.value).splitlines()
    assert any(text in line for line in lines)
    if under:
        caret = next(p for p, line in enumerate(lines) if line.strip() and set(line.strip()) == {"^"})
        assert lines[caret - 1][lines[caret].index("^") :].startswith(under)


@pytest.mark.parametrize("text", ["x^T A x", "x'*A*x", "A^-1", "x^2", r"\frac{a}{b}"])
def test_the_notation_of_another_dialect_points_to_it(text: str) -> None:
    with pytest.raises(td.ParseError, match=r"x\*\*2.*'matlab'.*'latex'.*--dialect"):
        td.parse(text, infer=True)
    with pytest.raises(td.ParseError) as caught:
        td.parse("x + ", infer=True)
    assert "--dialect" not in str(caught.value)


@pytest.mark.parametrize("text", [None, 3, b"x", ["x"]])
def test_only_texts_are_read(text: object) -> None:
    with pytest.raises(td.ParseError, match="A text is expected"):
        td.parse(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_text(text: str) -> None:
    with pytest.raises(td.ParseError, match="The text is empty: expected an expression"):
        parse(text)


def test_an_unknown_dialect() -> None:
    with pytest.raises(
        td.UnsupportedError, match="'fortran' is unknown; known are 'numpy', 'matrix', 'matlab', 'latex'"
    ):
        td.parse("x", dialect="fortran", x=3)


def test_a_name_that_is_none() -> None:
    with pytest.raises(td.ParseError):
        td.parse("x", **{"x y": (3,)})


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + "x" + ")" * 10_000,
        "[" * 5000,
        "x" + "[0" * 5000,
        "-" * 50_000 + "x",
        "exp(" * 3000 + "x" + ")" * 3000,
        "x" + "**2" * 5000,
        "x" + ".T" * 20_000,
        "+".join(["x"] * 60_000),
        "9" * 200_000,
        "9" * 5000 + "*x",
        "(" * 99_999,
        "x" * 100_001,
        "2**9999999999*x",
        "10**10**10*x",
        "a" + "**a" * 2000,
    ],
)
def test_huge_texts_are_refused(text: str) -> None:
    with pytest.raises(td.TensorDSLError) as caught:
        parse(text)
    assert len(str(caught.value)) < 2000


def test_long_texts_are_read() -> None:
    assert parse(" + ".join(["x"] * 5000)) == 5000 * x
    assert parse("(" * 100 + "x" + ")" * 100) == x
    assert parse("*".join(["a"] * 8)) == a**2 * a**2 * a**2 * a**2


@pytest.mark.parametrize(("text", "start", "stop"), [("exp(x) + ex(x)", 9, 11), ("zz*x + z*x", 7, 8), ("x + xx", 4, 6)])
def test_the_caret_stands_under_the_name_at_fault(text: str, start: int, stop: int) -> None:
    with pytest.raises(td.ParseError) as caught:
        td.parse(text, x=(3,), zz=(3,))
    lines = str(caught.value).splitlines()
    place = next(n for n, line in enumerate(lines) if line.strip() == text)
    assert lines[place + 1] == " " * (lines[place].index(text) + start) + "^" * (stop - start)
