"""`to_string`, `to_latex` and `explain`: every form of an expression, and every reading of a derivative."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tensordsl.calculus import differential, jacobian, jacobian_matrix
from tensordsl.contraction import contract, is_zero
from tensordsl.dims import AnySize, Dim
from tensordsl.errors import ShapeError, TensorDSLError, UnsupportedError
from tensordsl.expr import Expr, Select, Symbol, operation
from tensordsl.functions.convert import as_expr, plain
from tensordsl.labels import Groups
from tensordsl.notation import tree as t
from tensordsl.notation.build import build
from tensordsl.notation.render import render
from tensordsl.printing.cases import cases_text
from tensordsl.printing.index import index_tree
from tensordsl.printing.matrix import matrix_tree
from tensordsl.printing.names import clashing, index_names
from tensordsl.printing.pieces import chain
from tensordsl.printing.sums import rescaled, unscaled
from tensordsl.program.plan import plan

LATEX_TEXT = {"_": r"\_", "&": r"\&", "#": r"\#", "%": r"\%", "─": "-"}
DEEPEST = 100
LONGEST = 20_000
FORMS = ("index", "cases", "slices", "matrix", "einsum")


@operation("to_string")
def to_string(e: Expr, form: str = "index", ascii: bool = False, kept: int | None = None) -> str:
    """The text of an expression in one of the forms."""
    return show(e, form, "ascii" if ascii else "unicode", kept)


@operation("to_latex")
def to_latex(e: Expr, form: str = "index", kept: int | None = None) -> str:
    """The LaTeX of an expression in one of the forms."""
    return show(e, form, "latex", kept)


def show(e: Expr, form: str, style: str, kept: int | None = None) -> str:
    """The expression in a form and a style; `UnsupportedError` for one too deep or too long to be read as a text."""
    if form != "einsum" and (e.depth > DEEPEST or e.extent > LONGEST):
        raise UnsupportedError(
            f"The expression is {e.depth} operations deep, and its text would name {e.extent} of them: "
            f"texts go to a depth of {DEEPEST} and to {LONGEST} operations. Print its parts, or the "
            "program that computes it with to_string('einsum') or to_python()."
        )
    if form == "index":
        return render(index_tree(e), style, indexed=True)
    if form == "cases":
        return cases_text(e, style)
    if form == "slices":
        return render(sliced(e, kept).tree, style)
    if form == "matrix":
        return render(matrix_form(e), style)
    if form == "einsum":
        return einsum_text(e, style)
    raise UnsupportedError(f"The form {form!r} is unknown; known are {', '.join(map(repr, FORMS))}.")


def matrix_form(e: Expr, positions: Mapping[str, AnySize] | None = None) -> t.Tree:
    """The matrix form, with the sizes of identities where the text alone does not say them.

    `positions` are the names of slices k, l, ... with the sizes of their axes: their basis vectors read e_k, e_l.
    """
    places = dict(positions or {})
    tree = matrix_tree(e, positions=frozenset(places))
    if not any(isinstance(part, t.Name) and part.name in ("I", "K") for part in walk(tree)):
        return tree
    vectors = {f"e_{name}": Symbol(f"e_{name}", (size,)) for name, size in places.items()}
    try:
        found = build(tree, {**vectors, **{s.name: s for s in e.symbols}}, "matrix")
    except TensorDSLError:
        return matrix_tree(e, True, frozenset(places))
    wanted = e.shape if e.ndim != 2 or e.shape[1] != 1 else e.shape[:1]
    return tree if found.shape == wanted else matrix_tree(e, True, frozenset(places))


def walk(tree: t.Tree) -> Iterator[t.Tree]:
    yield tree
    for child in t.children(tree):
        yield from walk(child)


class Sliced(NamedTuple):
    """The part of a tensor at one entry of its trailing axes, the names of their positions with the sizes, its text."""

    node: Expr
    places: dict[str, AnySize]
    tree: t.Tree


def sliced(e: Expr, kept: int | None, taken: frozenset[str] = frozenset()) -> Sliced:
    """A tensor contracted with e_k, e_l, ... along its trailing axes; no position has a name that is `taken`."""
    if kept is None:
        kept = 2 if e.ndim > 2 else max(e.ndim - 1, 0)
    if not 0 <= kept <= e.ndim:
        raise ShapeError(f"kept={kept} axes cannot be kept of {e.ndim}.")
    symbols = {symbol.name for symbol in e.symbols}
    names = (name for name in index_names(e, taken) if f"e_{name}" not in symbols)
    letters = [next(names) for _ in range(e.ndim)]
    operands: list[tuple[Expr, Groups]] = [(e, plain(e))]
    for axis in range(kept, e.ndim):
        operands.append((Select(e.shape[axis], Dim(letters[axis])), ((axis,),)))
    output = tuple((axis,) for axis in range(kept))
    node = contract(1, operands, output, dict(enumerate(e.shape)))
    places = dict(zip(letters[kept:], e.shape[kept:], strict=True))
    tree = matrix_form(node, places)
    more = clashing([tree], places.keys(), e, taken)
    return sliced(e, kept, taken | more) if more else Sliced(node, places, tree)


def einsum_text(e: Expr, style: str) -> str:
    text = str(plan(e))
    if style == "latex":
        lines = [
            "".join(LATEX_TEXT.get(character, character) for character in line)
            for line in text.splitlines()
            if not line.startswith("─")
        ]
        return "\\begin{array}{l}\n" + " \\\\\n".join(rf"\texttt{{{line}}}" for line in lines) + "\n\\end{array}"
    return text.replace("─", "-") if style == "ascii" else text


class Reading(NamedTuple):
    """One reading of a derivative: its form, a name for what is shown, and its text."""

    form: str
    left: str
    text: str

    @property
    def line(self) -> str:
        """`left = text`, a table or cases below their name."""
        if "\n" in self.text:
            return f"{self.left}:\n" + "\n".join("    " + row for row in self.text.splitlines())
        return f"{self.left} = {self.text}"


def readings(F: object, x: Symbol, ascii: bool = False, name: str = "F") -> list[Reading]:
    """Every reading of ∂F/∂x."""
    node = as_expr(F)
    if not isinstance(x, Symbol):
        raise UnsupportedError(
            f"A derivative is read with respect to one symbol, such as x = td.vector('x', k), not {x!r}."
        )
    style = "ascii" if ascii else "unicode"
    d, top = ("d", ".T") if ascii else ("∂", "ᵀ")
    derivative = jacobian(node, x)
    whole = f"{d}{name}/{d}{x.name}"
    change = differential(node, x)
    matrix = matrix_form(jacobian_matrix(node, x))
    _, places, at_entry = sliced(derivative, node.ndim)
    turned = top if node.ndim else ""  # a scalar is its own transpose
    rows, columns = f"vec({name})" if node.ndim > 1 else name, f"vec({x.name})" if x.ndim > 1 else x.name
    moved = t.Name(f"d{x.name}")
    step = t.Call("vec", (moved,)) if x.ndim > 1 else moved
    change_rows = f"vec(d{name})" if node.ndim > 1 else f"d{name}"
    still = is_zero(derivative)
    if node.ndim or x.ndim:
        moving = rescaled(matrix, t.product("@", (*chain(unscaled(matrix)), step)))
    else:
        moving = t.Product("*", (matrix, step))
    changes = [
        Reading("differential", f"d{name}", "0" if still else show(change, "matrix", style)),
        Reading("differential", change_rows, render(moving, style)),
    ]
    return [
        Reading("index", whole, show(derivative, "index", style)),
        Reading("cases", f"{whole}", show(derivative, "cases", style)),
        *(changes[:1] if still or changes[0] == changes[1] else changes),
        Reading("slices", f"{whole}[{','.join(places)}]" if places else whole, render(at_entry, style)),
        Reading("matrix", f"{d}{rows}/{d}{columns}{top if x.ndim else ''}", render(matrix, style)),
        Reading(
            "matrix",
            f"denominator layout: {d}{rows}{turned}/{d}{columns}",
            show(jacobian_matrix(node, x, layout="denominator"), "matrix", style),
        ),
        Reading("einsum", "program", show(derivative, "einsum", style)),
    ]


def explain(F: object, x: Symbol, ascii: bool = False) -> None:
    """Print every form of ∂F/∂x: index, cases, differential, slices, matrix in both layouts, and the program.

    Raises `UnsupportedError` unless x is a symbol.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.explain(td.sum(x**2), x)  # doctest: +ELLIPSIS
    F = x[i]**2
    <BLANKLINE>
    index         ∂F/∂x = 2*x[i] -> [i]
    ...
    """
    node = as_expr(F)
    found, last = readings(node, x, ascii), ""
    print(f"F = {show(node, 'index', 'ascii' if ascii else 'unicode')}\n")
    for reading in found:
        lines = reading.line.splitlines()
        print(f"{reading.form if reading.form != last else '':<12}  {lines[0]}")
        for line in lines[1:]:
            print(f"{'':<12}  {line}")
        last = reading.form
