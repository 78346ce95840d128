"""`to_string`, `to_latex` and `explain`: every form of an expression."""

from __future__ import annotations

from collections.abc import Iterator

from tensordsl.errors import TensorDSLError, UnsupportedError
from tensordsl.expr import Expr, operation
from tensordsl.notation import tree as t
from tensordsl.notation.build import build
from tensordsl.notation.render import render
from tensordsl.printing.index import index_tree
from tensordsl.printing.matrix import matrix_tree

FORMS = ("index", "cases", "slices", "matrix", "einsum")


@operation("to_string")
def to_string(e: Expr, form: str = "index", ascii: bool = False, kept: int | None = None) -> str:  # noqa: A002
    """The text of an expression in one of the forms."""
    return show(e, form, "ascii" if ascii else "unicode", kept)


@operation("to_latex")
def to_latex(e: Expr, form: str = "index", kept: int | None = None) -> str:
    """The LaTeX of an expression in one of the forms."""
    return show(e, form, "latex", kept)


def show(e: Expr, form: str, style: str, kept: int | None) -> str:
    if form == "index":
        return render(index_tree(e), style)
    if form == "matrix":
        return render(matrix_form(e), style)
    raise UnsupportedError(f"The form {form!r} is unknown; known are {', '.join(map(repr, FORMS))}.")


def matrix_form(e: Expr) -> t.Tree:
    """The matrix form, with the sizes of identities where the text alone does not say them."""
    tree = matrix_tree(e)
    if not any(isinstance(part, t.Name) and part.name in ("I", "K") for part in walk(tree)):
        return tree
    try:
        found = build(tree, {s.name: s for s in e.symbols}, "matrix")
    except TensorDSLError:
        return matrix_tree(e, sized=True)
    wanted = e.shape if e.ndim != 2 or e.shape[1] != 1 else e.shape[:1]
    return tree if found.shape == wanted else matrix_tree(e, sized=True)


def walk(tree: t.Tree) -> Iterator[t.Tree]:
    yield tree
    for child in t.children(tree):
        yield from walk(child)
