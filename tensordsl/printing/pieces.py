"""Pieces of matrix texts: products, transposes and scalings of trees, written as a person would write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensordsl.expr import Number, Select
from tensordsl.notation import tree as t
from tensordsl.printing.index import counted, slice_tree
from tensordsl.printing.names import size_tree, with_number

IDENTITY = t.Call("I", ())  # an identity whose size the text around it says: not a symbol of that name


@dataclass(eq=False)
class Piece:
    """A matrix, column or scalar as a tree, with what its simplifications need to know."""

    tree: t.Tree
    select: Select | None = None  # a selection matrix
    flipped: bool = False  # the transpose of one
    column: bool = False


def transposes(tree: t.Tree) -> int:
    return isinstance(tree, t.Transpose) + sum(map(transposes, t.children(tree)))


def position(select: Select) -> t.Tree:
    return size_tree(select.start)


def times(a: Piece, b: Piece) -> Piece:
    """The matrix product; with a selection it is a slice."""
    selects, other = (a, b) if a.select is not None else (b, a)
    one = selects.select is not None and selects.select.length is not None and other.select is None
    if one and isinstance(other.tree, t.Transpose):
        return transposed(times(transposed(b), transposed(a)))  # a slice of what is transposed, not of the transpose
    everything = t.Slice(None, None, None)
    if a.select is not None and a.select.length is not None and not a.flipped and b.select is None:
        keys = (slice_tree(a.select),) if b.column else (slice_tree(a.select), everything)
        return Piece(t.Subscript(b.tree, keys), column=b.column)
    if b.select is not None and b.select.length is not None and b.flipped and a.select is None:
        return Piece(t.Subscript(a.tree, (everything, slice_tree(b.select))))
    if (
        b.select is not None
        and b.select.length is None
        and not b.flipped
        and isinstance(b.select.start, int)
        and a.select is None
    ):
        return Piece(t.Subscript(a.tree, (everything, position(b.select))), column=True)
    return Piece(t.product("@", (*chain(a.tree), *chain(b.tree))), column=b.column)


def transposed(piece: Piece) -> Piece:
    """The transpose, moved inwards as a person would write it."""
    tree = piece.tree
    if isinstance(tree, t.Transpose):
        return Piece(tree.operand, piece.select, not piece.flipped)
    if isinstance(tree, t.Call) and tree.function == "diag" and piece.select is None and is_diagonal(tree):
        return piece
    if isinstance(tree, t.Product) and tree.operator in ("@", "∘", "⊗"):
        parts = [transposed(Piece(f)).tree for f in tree.factors]
        return Piece(t.Product(tree.operator, tuple(reversed(parts) if tree.operator == "@" else parts)))
    if tree == IDENTITY:
        return piece
    if isinstance(tree, t.Product) and isinstance(tree.factors[0], t.Number) and tree.operator == "/":  # entry by entry
        return Piece(t.Product("/", (tree.factors[0], transposed(Piece(tree.factors[1])).tree)))
    if isinstance(tree, t.Product) and tree.operator == "/":  # a matrix over scalars
        return Piece(t.Product("/", (transposed(Piece(tree.factors[0])).tree, *tree.factors[1:])))
    if isinstance(tree, t.Product):  # scalars times a matrix
        return Piece(t.Product("*", (*tree.factors[:-1], transposed(Piece(tree.factors[-1])).tree)))
    if isinstance(tree, t.Negative):
        return Piece(t.Negative(transposed(Piece(tree.operand)).tree))
    if isinstance(tree, t.Sum) and piece.select is None:
        turned = t.Sum(tuple((sign, transposed(Piece(term)).tree) for sign, term in tree.terms))
        return Piece(turned if transposes(turned) <= transposes(tree) else t.Transpose(tree))
    if isinstance(tree, t.Number):
        return piece
    return Piece(t.Transpose(tree), piece.select, not piece.flipped)


def is_diagonal(tree: t.Call) -> bool:
    """Whether diag(...) makes a matrix of a column rather than a column of a matrix."""
    return tree.options == (("matrix", t.Number(1)),)


def diagonal(column: t.Tree) -> t.Tree:
    return t.Call("diag", (column,), (("matrix", t.Number(1)),))


def hadamard(trees: Sequence[t.Tree]) -> t.Tree:
    """The Hadamard product of matrices."""
    return t.product(
        "∘",
        counted(
            [
                f
                for tree in trees
                for f in (tree.factors if isinstance(tree, t.Product) and tree.operator == "∘" else (tree,))
            ],
            entrywise=True,
        ),
    )


def columns_product(pieces: Sequence[Piece]) -> t.Tree:
    """The product of columns entry by entry, equal ones as a power."""
    return t.product("∘", counted([p.tree for p in pieces], entrywise=True))


def chain(tree: t.Tree | None) -> list[t.Tree]:
    """The factors of a matrix product."""
    if tree is None:
        return []
    return list(tree.factors) if isinstance(tree, t.Product) and tree.operator == "@" else [tree]


def scaled(sign: int, number: Number, scalars: Sequence[t.Tree], tree: t.Tree | None) -> t.Tree:
    """Numbers, then scalars, then the matrix."""
    above: list[t.Tree] = []
    below: list[t.Tree] = []
    for scalar in scalars:
        top, under = halves(scalar)
        above += top
        below += under
    result = with_number(number, [*counted(above), *([tree] if tree is not None else [])], counted(below))
    return result if sign > 0 else t.Negative(result)


def halves(tree: t.Tree) -> tuple[list[t.Tree], list[t.Tree]]:
    """The factors of a scalar above the line and below it."""
    match tree:
        case t.Product("/", (top, under)):
            above, inner = halves(top)
            below = under.factors if isinstance(under, t.Product) and under.operator == "*" else (under,)
            return above, [*inner, *below]
        case t.Product("*", factors):
            parts = [halves(factor) for factor in factors]
            return [f for above, _ in parts for f in above], [f for _, below in parts for f in below]
        case t.Power(base, t.Negative(t.Number() as exponent)):
            return [], [t.Power(base, exponent)]
        case t.Number(1):
            return [], []
    return [tree], []


def strip(tree: t.Tree) -> t.Tree:
    """Take the marks off diagonal matrices, which only printing needs."""
    if isinstance(tree, t.Call) and is_diagonal(tree):
        return t.Call("diag", tuple(strip(a) for a in tree.arguments))
    if tree == IDENTITY:
        return t.Name("I")
    return t.mapped(tree, strip)
