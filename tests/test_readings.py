"""Every reading of a derivative against every other one: texts parsed back, programs, sparse arrays, operators."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from strategies import DIMS, Case, cases, close

import tensordsl as td
from tensordsl.printing.cases import cases as cases_of
from tensordsl.printing.forms import sliced

MOST = 400  # entries of a derivative that the slow readings are tried on
quick = settings(max_examples=80, suppress_health_check=list(HealthCheck))


def value(expression: Any, data: dict[str, Any], **dims: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(expression.evaluate(data, **(dims or DIMS)))


def usable(array: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(array)) and np.max(np.abs(array), initial=0) < 1e7)


def alike(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal but for axes of size one, which matrix notation does not tell apart."""
    plain = [tuple(size for size in array.shape if size != 1) for array in (found, wanted)]
    return plain[0] == plain[1] and close(found.reshape(plain[0]), wanted.reshape(plain[0]))


def derivatives(case: Case) -> Iterator[tuple[Any, Any, dict[str, Any], np.ndarray]]:
    """The expression, each of its symbols, the data and ∂expression/∂symbol, where the values are of a sane size."""
    expression, data = case.expression(), case.data
    if usable(value(expression, data)):
        for symbol in case.variables.values():
            dense = value(td.jacobian(expression, symbol), data)
            if usable(dense):
                yield expression, symbol, data, dense


# --- what a text says ---------------------------------------------------------------------------------------------


def read(text: str, case: Case, dialect: str = "numpy", **more: Any) -> Any:
    return td.parse(text, dialect=dialect, **case.variables, **more)


def is_readable(text: str) -> bool:
    """Whether a text shows all that it needs: the data of large constants are not written out."""
    return "constant_" not in text and len(text) < 5000


@quick
@given(cases(depth=2))
def test_texts_parse_back(case: Case) -> None:
    seen = set()  # the value for one symbol is that for the next, and often a text in Unicode is that in ASCII
    for expression, symbol, data, dense in derivatives(case):
        jacobian = td.jacobian(expression, symbol)
        matrices = [td.jacobian_matrix(expression, symbol, layout=name) for name in ("numerator", "denominator")]
        for node in (expression, jacobian, *matrices):
            if node in seen:
                continue
            seen.add(node)
            wanted = dense if node is jacobian else value(node, data)
            for form, dialect, same in (("index", "numpy", close), ("matrix", "matrix", alike)):
                texts = [node.to_string(form, ascii=ascii_only) for ascii_only in (False, True)]
                assert texts[1].isascii()
                for text in filter(is_readable, dict.fromkeys(texts)):
                    assert same(value(read(text, case, dialect), data), wanted), text


@quick
@given(cases(depth=2))
def test_layouts_say_the_same(case: Case) -> None:
    for expression, symbol, data, dense in derivatives(case):
        rows, columns = range(expression.ndim)[::-1], range(expression.ndim, dense.ndim)[::-1]
        wanted = dense.transpose(*rows, *columns).reshape(value(expression, data).size, data[symbol.name].size)
        assert close(value(td.jacobian_matrix(expression, symbol), data), wanted)
        assert close(value(td.jacobian_matrix(expression, symbol, layout="denominator"), data), wanted.T)


@quick
@given(cases(depth=2))
def test_differential_is_the_jacobian_times_a_step(case: Case) -> None:
    for expression, symbol, data, dense in derivatives(case):
        name = f"d{symbol.name}"
        step = np.random.default_rng(case.seed + 3).normal(size=data[symbol.name].shape)
        wanted = np.tensordot(dense, step, step.ndim)
        differential = td.differential(expression, symbol)
        for dialect in ("index", "matrix"):
            text = differential.to_string(dialect)
            if is_readable(text):
                back = read(text, case, "numpy" if dialect == "index" else dialect, **{name: symbol.shape})
                assert alike(value(back, {**data, name: step}), wanted), text


def at_entry(text: str, at: dict[str, int]) -> str:
    """The text with x[k] as an entry of a known place; e_k is given as data."""
    inside = re.compile(r"(?<=[\[,])\w+(?=[\],])")
    return re.sub(r"\[[^\]]*\]", lambda keys: inside.sub(lambda name: str(at.get(name[0], name[0])), keys[0]), text)


@quick
@given(cases(depth=2))
def test_slices_are_the_derivative_by_one_entry(case: Case) -> None:
    for expression, symbol, data, dense in derivatives(case):
        jacobian = td.jacobian(expression, symbol)
        text = jacobian.to_string("slices", kept=expression.ndim)
        if dense.size > MOST or not is_readable(text):
            continue
        letters = sliced(jacobian, expression.ndim)[1]
        units = {f"e_{letter}": size for letter, size in zip(letters, symbol.shape, strict=True)}
        for place in np.ndindex(data[symbol.name].shape):
            entry = at_entry(text, dict(zip(letters, place, strict=True)))
            back = read(entry, case, "matrix", **{name: (size,) for name, size in units.items()})
            unit = {name: np.eye(size)[p] for name, p, size in zip(units, place, data[symbol.name].shape, strict=True)}
            assert alike(value(back, {**data, **unit}), dense[(..., *place)]), text


# --- cases --------------------------------------------------------------------------------------------------------


def holds(condition: str, at: dict[str, int]) -> bool:
    """Whether `i = k ≠ j`, `i = j and k ≠ l` or `not (i = j and k = l)` holds for an entry."""
    negations = re.findall(r"not \((.*?)\)", condition)
    if any(holds(inner, at) for inner in negations):
        return False
    for chain in re.split(r" and |, ", re.sub(r"not \(.*?\)", "", condition)):
        tokens = chain.split()
        for a, sign, b in zip(tokens[::2], tokens[1::2], tokens[2::2], strict=False):
            if (at[a] == at[b]) != (sign == "="):
                return False
    return True


def test_the_evaluator_of_conditions() -> None:
    at = {"i": 0, "j": 1, "k": 0, "l": 1}
    assert holds("i = k ≠ j", at)
    assert not holds("i = k ≠ j and k = l", at)
    assert holds("i = k, j = l, not (i = j and k = l)", at)
    assert not holds("not (i = k and j = l)", at)


def entries(text: str, sizes: dict[str, Any], known: dict[str, Any], data: dict[str, Any], **dims: int) -> np.ndarray:
    """The tensor that the cases describe: one axis for each index, found entry by entry."""
    rows = []
    for line in text.splitlines():
        body, condition = [*re.split(r"  +(?:where |otherwise|for all .*)", line), ""][:2]
        heads = {name: name for name in sizes}  # indices that coincide are called by the first of them
        for chain in re.split(r" and |, |≠", re.sub(r"not \(.*?\)", "", condition)):
            block = [name for name in sizes if name in re.findall(r"\w+", chain)] if "=" in chain else []
            heads.update(dict.fromkeys(block, heads[block[0]]) if block else {})
        axes = dict.fromkeys(heads.values())
        arrow = ",".join(f"{name}:{sizes[name]}" for name in axes)
        rows.append((condition, list(axes), value(td.parse(f"{body} -> [{arrow}]", **known), data, **dims)))
    numbers = [value(td.sum(td.ones(size)), data, **dims) for size in sizes.values()]
    whole = np.zeros([int(number) for number in numbers])
    for place in np.ndindex(whole.shape):
        at = dict(zip(sizes, place, strict=True))
        held = [(axes, array) for condition, axes, array in rows if condition and holds(condition, at)]
        held = held or [(axes, array) for condition, axes, array in rows if not condition]
        assert len(held) == 1, (text, at)
        axes, array = held[0]
        whole[place] = array[tuple(at[name] for name in axes)]
    return whole


@quick
@given(cases(depth=2))
def test_cases_are_the_entries(case: Case) -> None:
    for expression, symbol, data, dense in derivatives(case):
        jacobian = td.jacobian(expression, symbol)
        if dense.size <= MOST and is_readable(str(jacobian)):
            text, sizes = jacobian.to_string("cases"), cases_of(jacobian).sizes
            assert close(entries(text, sizes, case.variables, data).reshape(dense.shape), dense), text


k, m, n = td.dims("k m n")
x, u, A, X, C = td.vector("x", k), td.vector("u", k), td.matrix("A", k, k), td.matrix("X", m, n), td.matrix("C", k, n)
B, T, a = td.matrix("B", k, k), td.tensor("T", k, m, n), td.scalar("a")
I, NORM, i, j = td.identity(k), td.linalg.norm(x), *td.indices("i j")
BRACKETS = [  # δ in brackets, under products, in functions, on indices that are summed over
    td.jacobian(td.softmax(x / a), x),
    td.jacobian(td.softmax(a * x + u), x),
    td.jacobian(td.softmax(A), A),
    td.hessian(td.logsumexp(x / a), x),
    td.derivative(td.logsumexp(x), x, 3),
    td.derivative(NORM, x, 2),
    td.derivative(NORM, x, 3),
    td.derivative(1 / NORM, x, 2),
    td.hessian(td.log(x @ x), x),
    td.hessian((x @ x) ** 2, x),
    td.derivative((x @ x) ** 2, x, 3),
    td.hessian(td.sqrt(1 + x @ x), x),
    td.jacobian(x / NORM, x),
    td.jacobian(x / td.sum(x), x),
    td.jacobian(td.exp(x) / td.sum(td.exp(x)), x),
    td.jacobian(td.linalg.pinv(X), X),
    td.jacobian(td.linalg.inv(A) * A, A),
    td.jacobian(td.linalg.norm(X) * X, X),
    td.jacobian(X / td.linalg.norm(X), X),
    td.jacobian(A * td.outer(x, x), x),
    td.jacobian(td.exp(A * td.outer(x, x)), x),
    td.jacobian(td.kron(A, A), A),
    td.jacobian(td.outer(x, x) @ u, x),
    td.jacobian(td.outer(x, x) * (x @ u), x),
    td.jacobian(td.diag(x) @ A @ td.diag(x), x),
    td.jacobian(A @ td.diag(x) @ td.linalg.inv(A), x),
    td.jacobian(A @ A, A),
    td.jacobian(td.trace(A) * A, A),
    td.jacobian(td.var(x) * x, x),
    td.hessian(td.var(x) ** 2, x),
    td.hessian(td.prod(x), x),
    td.jacobian(td.tanh(A @ x) * x, x),
    td.jacobian(td.maximum(x, a) * td.sum(x), x),
    a * (A * I + B),
    a * (A * I + B) * td.outer(x, u),
    (A + I) @ (B + I),
    (A + I) @ (B - I) @ (A - I),
    td.exp((A + I) @ (B + I)),
    (A + I) @ td.linalg.inv(A),
    td.exp(a * (I + A * I)) * (B - I),
    ((A - I) * (B + I) * x) @ u,
    (A[i, j] * (x[j] * I[i, j] + u[i]) * (I[i, j] + B[j, i])).tensor(i, j),
    td.log(A + I) * (B + I) - I,
]


@pytest.mark.parametrize("number", range(len(BRACKETS)))
def test_each_line_of_the_cases_holds(number: int) -> None:
    expression, rng = BRACKETS[number], np.random.default_rng(number)
    known = {symbol.name: symbol for symbol in expression.symbols}
    dims = {"k": 3, "m": 4, "n": 2}
    data = {name: rng.uniform(0.5, 1.5, [dims[str(size)] for size in symbol.shape]) for name, symbol in known.items()}
    if "A" in known:
        data["A"] += 3 * np.eye(3)
    text, wanted = expression.to_string("cases"), value(expression, data, **dims)
    assert "δ" not in text or "->" in text  # within the argument of a function of a whole vector
    found = entries(text, cases_of(expression).sizes, known, data, **dims)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-9, atol=1e-12, err_msg=text)


def test_a_case_that_is_zero_is_told_once() -> None:
    assert td.derivative(x @ A @ x, x, 3).to_string("cases") == "0  for all i, j, k"
    cubic = td.parse("x[i]*(δ[i,j] - δ[i,j]*δ[j,k]) -> [i,j,k]", x=x)
    assert cubic.to_string("cases").splitlines() == ["x[i]  where i = j ≠ k", "0     otherwise"]


# --- what is run --------------------------------------------------------------------------------------------------


def run_source(expression: Any, data: dict[str, Any]) -> Any:
    """The value by `to_python`, in a namespace that holds nothing."""
    space: dict[str, Any] = {}
    exec(expression.to_python(), space)
    wanted = inspect.signature(space["f"]).parameters
    with np.errstate(all="ignore"):
        return space["f"](**{name: array for name, array in {**DIMS, **data}.items() if name in wanted})


def dense_of(array: Any) -> np.ndarray:
    """A `coo_array` as a dense one, entries that fall together added."""
    found = np.zeros(array.shape, array.dtype)
    np.add.at(found, array.coords, array.data)
    return found


@quick
@given(cases(depth=2))
def test_programs_give_the_same(case: Case) -> None:
    rng = np.random.default_rng(case.seed + 4)
    for expression, symbol, data, dense in derivatives(case):
        jacobian = td.jacobian(expression, symbol)
        assert close(run_source(jacobian, data), dense)
        if jacobian.ndim:
            with np.errstate(all="ignore"):
                assert close(dense_of(td.compile(jacobian, output="sparse")(data, **DIMS)), dense)
        matrix = td.jacobian_matrix(expression, symbol)
        wanted = value(matrix, data)
        v, w = rng.normal(size=wanted.shape[1]), rng.normal(size=wanted.shape[0])
        with np.errstate(all="ignore"):
            operator = td.compile(matrix, output="operator")(data, **DIMS)
            assert close(operator @ v, wanted @ v)
            assert close(operator.T @ w, wanted.T @ w)


# --- LaTeX --------------------------------------------------------------------------------------------------------


def balanced(text: str) -> bool:
    """Whether every brace is closed, and \\left and \\right come in pairs."""
    level = 0
    for place, character in enumerate(text):
        if character in "{}" and text[place - 1 : place] != "\\":
            level += 1 if character == "{" else -1
        if level < 0:
            return False
    return level == 0 and len(re.findall(r"\\left\b", text)) == len(re.findall(r"\\right\b", text))


@quick
@given(cases(depth=2))
def test_latex_is_balanced(case: Case) -> None:
    expression = case.expression()
    for node in (expression, *(td.jacobian(expression, symbol) for symbol in case.variables.values())):
        for form in ("index", "cases", "slices", "matrix", "einsum"):
            text = node.to_latex(form)
            assert balanced(text), text


# --- what has no compact matrix form ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        td.jacobian_matrix(td.kron(X, C), X),
        td.jacobian_matrix(td.khatri_rao(X, C), X),
        td.jacobian_matrix(td.diag(x), x),
        td.jacobian_matrix(td.einsum("ijk,jk->i", T, X), T),
        td.einsum("ijk,jk->i", T, X),
        td.hessian(td.sum(x**3), x),
        td.einsum("ij,ji->i", A, A),
        td.einsum("ij,i,j->ji", A, x, x),
        td.derivative(td.sum(x**3), x, 3),
    ],
    ids=str,
)
def test_no_matrix_form_is_an_error(expression: Any) -> None:
    """Such a term is an `einsum(...)` in the text, which parses back."""
    rng = np.random.default_rng(7)
    sizes = {"k": 2, "m": 3, "n": 4}
    known = {symbol.name: symbol for symbol in (x, A, X, C, T)}
    data = {name: rng.normal(size=tuple(sizes[str(size)] for size in symbol.shape)) for name, symbol in known.items()}
    text = expression.to_string("matrix")
    back = td.parse(text, dialect="matrix", **known)
    assert alike(np.asarray(back.evaluate(data, **sizes)), np.asarray(expression.evaluate(data, **sizes))), text
