"""The words of errors: what was given, the operand at fault, every shape, and a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensordsl as td
from tensordsl.errors import describe, mark, show_shape

k, m, n = td.dims("k m n")
x, y, z = td.vector("x", k), td.vector("y", k), td.vector("z", m)
A, B, S = td.matrix("A", k, m), td.matrix("B", m, n), td.matrix("S", k, k)
T = td.tensor("T", k, m, n)
a = td.scalar("a")
i, j = td.indices("i j")

# What is done, the error, and what its message must say; "<-- ^" marks the operand at fault.
SAYS: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "add": (lambda: x + z, td.ShapeError, ["Cannot add", "sizes k and m", "(k,)", "(m,)   <-- ^", "x[:, None]"]),
    "subtract": (lambda: A - B, td.ShapeError, ["Cannot add", "(k, m)", "(m, n)   <-- ^", "transpose one operand"]),
    "multiply": (lambda: x * z, td.ShapeError, ["Cannot multiply entry by entry", "on axis -1", "(m,)   <-- ^"]),
    "hadamard": (lambda: td.hadamard(A, B), td.ShapeError, ["Cannot multiply entry by entry", "(m, n)   <-- ^"]),
    "divide": (lambda: x / z, td.ShapeError, ["<-- ^", "(k,)", "(m,)"]),
    "power": (lambda: x**z, td.ShapeError, ["Cannot raise to a power", "(m,)   <-- ^"]),
    "array": (lambda: td.vector("v", 3) * np.ones(4), td.ShapeError, ["sizes 3 and 4", "(4,)   <-- ^"]),
    "matmul": (lambda: A @ A, td.ShapeError, ["columns on the left (m)", "rows on the right (k)", "<-- ^", ".T"]),
    "matmul of vectors": (lambda: A @ x, td.ShapeError, ["columns on the left (m)", "(k,)   <-- ^"]),
    "matmul of a scalar": (lambda: a @ x, td.ShapeError, ["does not take scalars", "()   <-- ^", "with *"]),
    "matmul of stacks": (
        lambda: td.tensor("P", 2, k, m) @ td.tensor("Q", 3, m, n),
        td.ShapeError,
        ["stacking axes", "(2, k, m)", "(3, m, n)   <-- ^"],
    ),
    "dot": (lambda: td.dot(T, T), td.ShapeError, ["tensordot pairs axis", "<-- ^"]),
    "inner": (lambda: td.inner(A, B), td.ShapeError, ["axis 1 of size m with axis 1 of size n", "<-- ^"]),
    "tensordot": (lambda: td.tensordot(T, T), td.ShapeError, ["of size m with axis 0 of size k", "Paired axes"]),
    "tensordot of few axes": (lambda: td.tensordot(x, A, 2), td.ShapeError, ["over 2 axes", "(k,)   <-- ^"]),
    "tensordot of unlike lists": (lambda: td.tensordot(A, B, ([0, 1], [0])), td.ShapeError, ["pairs 2 axes with 1"]),
    "khatri_rao": (lambda: td.khatri_rao(A, B), td.ShapeError, ["as many columns", "(m, n)   <-- ^", "kron"]),
    "trace": (lambda: td.trace(A), td.ShapeError, ["trace takes a square matrix", "(k, m)   <-- ^", "td.einsum"]),
    "diagonal": (lambda: td.diagonal(x), td.ShapeError, ["diagonal takes a square matrix", "(k,)   <-- ^"]),
    "diag": (lambda: td.diag(T), td.ShapeError, ["diag takes a vector or a matrix", "(k, m, n)   <-- ^"]),
    "unvec": (lambda: td.unvec(x, (k, m)), td.ShapeError, ["shape (k, m) takes a vector of size k*m", "(k,)   <-- ^"]),
    "transpose": (
        lambda: td.transpose(T, (0, 1)),
        td.ShapeError,
        ["transpose to the axes", "Name each of the 3 axes once"],
    ),
    "axis": (lambda: td.sum(A, axis=2), td.ShapeError, ["sum: there is no axis 2", "(k, m)   <-- ^", "from -2 to 1"]),
    "axis twice": (lambda: td.mean(A, axis=(0, -2)), td.ShapeError, ["an axis is named twice", "Name each axis once"]),
    "over": (lambda: td.sum(x, over=i), td.UnsupportedError, ["over=...) is for index notation", "axis="]),
    "too many indices": (lambda: x[0, 1], td.ShapeError, ["Too many indices: 2 for 1 axes", "(k,)   <-- ^"]),
    "out of range": (lambda: td.vector("v", 3)[3], td.ShapeError, ["position 3 is out of range", "from -3 to 2"]),
    "two ellipses": (lambda: T[..., 0, ...], td.ShapeError, ["one `...` at the most"]),
    "odd index": (lambda: x["a"], td.UnsupportedError, ["cannot be indexed by 'a'", "whole number, a list of them"]),
    "step of zero": (lambda: x[::0], td.ShapeError, ["step 0", "other than 0"]),
    "step of a symbolic axis": (lambda: x[::2], td.UnsupportedError, ["step 2", "Declare the axis with a number"]),
    "einsum of two sizes": (
        lambda: td.einsum("ij,jk->ik", A, A),
        td.ShapeError,
        ["letter 'j' has the sizes m and k", "ij,jk->ik\n       ^", "(k, m), (k, m)"],
    ),
    "einsum of other axes": (
        lambda: td.einsum("ij->i", x),
        td.ShapeError,
        ["'ij' names 2 axes", "(k,)", "^^", "one letter for"],
    ),
    "einsum of other operands": (
        lambda: td.einsum("ij,j->i", A),
        td.ShapeError,
        ["names 2 operands, but 1 were given", "^^^^"],
    ),
    "einsum of no letter": (lambda: td.einsum("i1->i", A), td.ShapeError, ["'1' is no letter", "i1->i\n     ^"]),
    "einsum of an unknown letter": (
        lambda: td.einsum("i->ij", x),
        td.ShapeError,
        ["output letter 'j'", "i->ij\n        ^", "j=3"],
    ),
    "einsum of an open group": (lambda: td.einsum("(ij->i", x), td.ShapeError, ["parenthesis is not closed", "^"]),
    "einsum of an unsolved group": (
        lambda: td.einsum("(ij)->ij", x),
        td.ShapeError,
        ["cannot both be told", "by name"],
    ),
    "einsum of a group that does not fit": (
        lambda: td.einsum("(ij),i->j", td.vector("v", 10), td.vector("u", 3)),
        td.ShapeError,
        ["do not fill an axis of size 10", "^"],
    ),
    "einsum of a size too many": (lambda: td.einsum("i->i", x, z=3), td.ShapeError, ["size is given for 'z'"]),
    "einsum of no text": (lambda: td.einsum(A, A), td.UnsupportedError, ["first argument must be the subscripts"]),
    "inverse": (lambda: td.linalg.inv(A), td.ShapeError, ["inv takes a square matrix", "(k, m)   <-- ^", "one size"]),
    "determinant": (lambda: td.linalg.det(x), td.ShapeError, ["det takes a square matrix", "(k,)   <-- ^"]),
    "logdet": (lambda: td.logdet(A), td.ShapeError, ["logdet takes a square matrix"]),
    "solve": (lambda: td.linalg.solve(S, z), td.ShapeError, ["right side with as many rows", "(m,)   <-- ^", ".T"]),
    "norm": (lambda: td.linalg.norm(A, ord="max"), td.UnsupportedError, ["ord='max' has no rule", "known"]),
    "index of two sizes": (
        lambda: A[i, i],
        td.ShapeError,
        ["index i stands on axes of the sizes k and m", "(k, m)", "two indices"],
    ),
    "index over terms": (
        lambda: (x[i] * z[i]).tensor(i),
        td.ShapeError,
        ["index i has the size k in one place and m", "(m,)"],
    ),
    "few indices": (lambda: A[i], td.ShapeError, ["(k, m) takes 2 indices, not 1"]),
    "index twice": (lambda: S[i, j].tensor(i, i), td.ShapeError, ["index i is named twice", "td.diag"]),
    "index of no term": (lambda: x[i].tensor(j), td.ShapeError, ["index j", "stands in no term", "known are i"]),
    "no indices": (lambda: x[i] * y, td.UnsupportedError, ["stands without indices", "(k,)", "an index for each axis"]),
    "index and slice": (lambda: A[i, 1:], td.UnsupportedError, ["an index and a slice do not go together"]),
    "gradient of a vector": (
        lambda: td.grad(S @ x, x),
        td.ShapeError,
        ["The gradient is of a scalar", "(k,)   <-- ^", "td.jacobian"],
    ),
    "hessian of a matrix": (lambda: td.hessian(A, A), td.ShapeError, ["The Hessian is of a scalar", "order=2"]),
    "hvp of a vector": (lambda: td.hvp(x, x, y), td.ShapeError, ["An hvp is of a scalar", "td.jvp"]),
    "by an expression": (
        lambda: td.grad(td.sum(x), 2 * x),
        td.UnsupportedError,
        ["with respect to symbols", "an expression"],
    ),
    "by a name": (lambda: td.jacobian(x, "x"), td.UnsupportedError, ["'x' (str)"]),
    "by nothing": (lambda: td.grad(td.sum(x), ()), td.UnsupportedError, ["at least one symbol"]),
    "direction": (
        lambda: td.jvp(S @ x, x, z),
        td.ShapeError,
        ["has the shape of what it stands for", "(m,)   <-- ^", "(k,)"],
    ),
    "adjoint": (lambda: td.vjp(A.T @ x, x, x), td.ShapeError, ["A vjp", "(k,)   <-- ^", "Give one of shape (m,)"]),
    "directions": (
        lambda: td.jvp(S @ x, (S, x), (S,)),
        td.ShapeError,
        ["2 symbols need a tuple of 2 directions", "given were 1"],
    ),
    "order": (
        lambda: td.derivative(x, x, order=-1),
        td.UnsupportedError,
        ["order of a derivative is a whole number from 0, not -1"],
    ),
    "layout": (
        lambda: td.jacobian_matrix(x, x, layout="both"),
        td.UnsupportedError,
        ["'both' is unknown", "'numerator'", "'denominator'"],
    ),
    "matrix by several": (lambda: td.jacobian_matrix(x, (x, S)), td.UnsupportedError, ["with respect to one symbol"]),
    "differential of a name in use": (
        lambda: td.differential(x + td.vector("dx", k)),
        td.TensorDSLError,
        ["would be called dx", "Rename"],
    ),
    "zero division": (lambda: x / 0, td.UnsupportedError, ["Division", "by zero"]),
    "text": (lambda: x + "1", td.UnsupportedError, ["'1' (str) cannot stand in an expression", "a NumPy array"]),
    "ragged constant": (lambda: td.constant([[1, 2], [3]]), td.UnsupportedError, ["no rectangular array of numbers"]),
    "constant of words": (lambda: td.constant(["a"]), td.UnsupportedError, ["cannot be a constant: expected numbers"]),
    "size": (lambda: td.vector("x", -1), td.ShapeError, ["size -1 is negative"]),
    "name": (lambda: td.vector("2x", k), td.ParseError, ["'2x' cannot name a symbol", "td.vector('x', k)"]),
    "basis": (lambda: td.basis(3, 3), td.ShapeError, ["position 3 is out of range", "size 3"]),
    "arguments": (lambda: td.exp(x, y), td.UnsupportedError, ["exp takes 1 argument, not 2"]),
    "ufunc": (lambda: np.heaviside(x, x), td.UnsupportedError, ["np.heaviside", "Known: "]),
    "ufunc method": (lambda: np.add.reduce(x), td.UnsupportedError, ["np.add.reduce"]),
    "function": (lambda: np.sort(x), td.UnsupportedError, ["np.sort", "Known: "]),
}


@pytest.mark.parametrize("name", SAYS)
def test_words(name: str) -> None:
    call, kind, words = SAYS[name]
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, td.TensorDSLError)
    text = str(caught.value)
    for word in words:
        assert word in text, text


def test_a_size_mismatch_carries_the_sizes() -> None:
    with pytest.raises(td.ShapeError) as caught:
        x + z
    assert caught.value.sizes == (k, m)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bool(x),
        lambda: [*x],
        lambda: 1 in x,
        lambda: len(x),
        lambda: float(td.sum(x)),
        lambda: x and y,
        lambda: bool(x[i]),
    ],
)
def test_what_python_would_take_for_a_value(call: Callable[[], Any]) -> None:
    with pytest.raises(TypeError):
        call()


def test_long_operands_are_cut_and_deep_ones_named() -> None:
    e = x
    for _ in range(200):
        e = td.sin(e) * y
    with pytest.raises(td.ShapeError) as caught:
        e + z
    assert "operations deep" in str(caught.value)
    assert max(map(len, str(caught.value).splitlines())) < 160


def test_mark_and_describe() -> None:
    assert mark("ab + cd", 5, 7) == "    ab + cd\n         ^^"
    line, caret = mark("x" * 200 + "!" + "y" * 200, 200).splitlines()
    assert line[caret.index("^")] == "!"
    assert len(line) < 90
    assert show_shape(()) == "()"
    assert show_shape((k,)) == "(k,)"
    assert show_shape((k, 3)) == "(k, 3)"
    assert (
        describe([("A", (k,), False), ("long", (), True)]) == "    A     has shape (k,)\n    long  has shape ()   <-- ^"
    )
