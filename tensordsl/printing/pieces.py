"""Pieces of matrix texts: products, transposes and scalings of trees, written as a person would write them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from tensordsl.expr import Number, Select
from tensordsl.notation import tree as t
from tensordsl.printing.names import counted, halves, is_differential, size_tree, with_number
from tensordsl.printing.selections import slice_tree

EVERYTHING = t.Slice(None, None, None)
IDENTITY = t.Call("I", ())  # an identity whose size the text around it says: not a symbol of that name


@dataclass(eq=False)
class Piece:
    """A matrix, column or scalar as a tree, with what its simplifications need to know."""

    tree: t.Tree
    select: Select | None = None  # a selection matrix
    flipped: bool = False  # the transpose of one
    column: bool = False
    column_of: tuple[t.Tree, t.Tree] | None = None  # the matrix of which it is one column, and which one


def transposes(tree: t.Tree) -> int:
    return isinstance(tree, t.Transpose) + sum(map(transposes, t.children(tree)))


def position(select: Select) -> t.Tree:
    return size_tree(select.start)


def times(a: Piece, b: Piece) -> Piece:
    """The matrix product; with a selection it is a slice."""
    if a.select is not None and b.select is None and a.select.length is not None:
        if isinstance(b.tree, t.Transpose):
            return transposed(
                times(transposed(b), transposed(a))
            )  # a slice of what is transposed, not of the transpose
        if not a.flipped:
            keys = (slice_tree(a.select),) if b.column else (slice_tree(a.select), EVERYTHING)
            return Piece(sliced(b.tree, keys), column=b.column)
    if b.select is not None and a.select is None:
        if b.select.length is None:
            return b if b.flipped else column_of(a.tree, b)
        if isinstance(a.tree, t.Transpose):
            return transposed(times(transposed(b), transposed(a)))
        if b.flipped:
            return Piece(sliced(a.tree, (EVERYTHING, slice_tree(b.select))))
    return Piece(t.product("@", (*chain(a.tree), *chain(b.tree))), column=b.column)


def sliced(tree: t.Tree, keys: tuple[t.Tree, ...]) -> t.Tree:
    """A slice; of a slice along the other axis, one slice along both."""
    match tree:
        case t.Subscript(whole, (rows, columns)) if len(keys) == 2 and not any(
            isinstance(key, t.Items) for key in (rows, columns, *keys)
        ):
            if rows == keys[1] == EVERYTHING:
                return t.Subscript(whole, (keys[0], columns))
            if columns == keys[0] == EVERYTHING:
                return t.Subscript(whole, (rows, keys[1]))
    return t.Subscript(tree, keys)


def column_of(matrix: t.Tree, basis: Piece) -> Piece:
    """A matrix times a basis vector: its column, or the row of its transpose; A e_k where the position has a name."""
    assert basis.select is not None
    place = position(basis.select)
    across = turned(matrix)
    if isinstance(basis.tree, t.Name):
        column = t.product("@", (*chain(matrix), basis.tree))
    elif transposes(across) < transposes(matrix):
        column = sliced(across, (place, EVERYTHING))
    else:
        column = sliced(matrix, (EVERYTHING, place))
    return Piece(column, column=True, column_of=(matrix, place))


def transposed(piece: Piece) -> Piece:
    """The transpose, moved inwards as a person would write it."""
    match piece.tree:
        case t.Transpose(operand):
            return Piece(operand, piece.select, not piece.flipped)
        case t.Number() | t.Call("I" | "identity"):
            return piece
        case t.Call("diag") as call if is_diagonal(call):
            return piece
        case t.Call("cross", (a, b)) if isinstance(a, t.Transpose) or isinstance(b, t.Transpose):  # skew-symmetric
            return Piece(t.Call("cross", (b, a)))
        case t.Subscript(t.Call("I" | "identity") as whole, (rows, columns)):
            return Piece(t.Subscript(whole, (columns, rows)), piece.select, not piece.flipped)
        case t.Negative(operand):
            return Piece(t.Negative(turned(operand)))
        case t.Product("@", factors):
            return Piece(t.Product("@", tuple(map(turned, reversed(factors)))))
        case t.Product("⊗", factors):
            return Piece(t.Product("⊗", tuple(map(turned, factors))))
        case t.Product("/", (above, *below)):  # a matrix over scalars
            return Piece(t.Product("/", (turned(above), *below)))
        case t.Product("*", (*scalars, matrix)):
            return Piece(t.Product("*", (*scalars, turned(matrix))))
        case t.Product(operator, factors):
            return inside_or_out(piece.tree, t.Product(operator, tuple(map(turned, factors))))
        case t.Sum(terms) if all(sign < 0 for sign, _ in terms):
            return Piece(t.Negative(turned(t.Sum(tuple((1, term) for _, term in terms)))))
        case t.Sum(terms) if any(isinstance(term, t.Product) and term.operator == "⊗" for _, term in terms):
            return Piece(t.Sum(tuple(natural([(sign, turned(term)) for sign, term in terms]))))
        case t.Sum(terms):
            return inside_or_out(piece.tree, t.Sum(tuple(natural([(sign, turned(term)) for sign, term in terms]))))
    return Piece(t.Transpose(piece.tree), piece.select, not piece.flipped)


def turned(tree: t.Tree) -> t.Tree:
    return transposed(Piece(tree)).tree


def inside_or_out(tree: t.Tree, within: t.Tree) -> Piece:
    """The transpose of what goes entry by entry, of its parts where that takes no more marks than the whole has."""
    return Piece(within if transposes(within) <= transposes(tree) else t.Transpose(tree))


def natural(parts: Sequence[tuple[int, t.Tree]]) -> list[tuple[int, t.Tree]]:
    """Signed terms, of a matrix and its transpose the one that has no mark first."""
    found = list(parts)
    for low, (sign, tree) in enumerate(found):
        for high in range(low + 1, len(found)):
            other_sign, other = found[high]
            if sign == other_sign and transposes(other) < transposes(tree) and turned(other) == tree:
                found[low], found[high] = found[high], found[low]
                break
    return found


def is_diagonal(tree: t.Call) -> bool:
    """Whether diag(...) makes a matrix of a column rather than a column of a matrix."""
    return tree.options == (("matrix", t.Number(1)),)


def diagonal(column: t.Tree) -> t.Tree:
    return t.Call("diag", (column,), (("matrix", t.Number(1)),))


def hadamard(trees: Sequence[t.Tree]) -> t.Tree:
    """The product entry by entry, of matrices or of columns: equal factors as a power, reciprocals below the line."""
    above: list[t.Tree] = []
    below: list[t.Tree] = []
    for tree in trees:
        top, under = entrywise_halves(tree)
        above += top
        below += under
    still, moving = ([f for f in above if is_moving(f) is one] for one in (False, True))
    whole = t.product("∘", counted(sorted(still, key=is_sum), True)) if still else t.Number(1)
    if below and not still:
        still, whole, moving = moving, t.product("∘", moving) if moving else whole, []
    whole = t.Product("⊘", (whole, t.product("∘", counted(below, True)))) if below else whole
    return t.product("∘", (*(entrywise_factors(whole) if still or below else ()), *counted(moving, True)))


def entrywise_halves(tree: t.Tree) -> tuple[list[t.Tree], list[t.Tree]]:
    match tree:
        case t.Product("∘", factors):
            return list(factors), []
        case t.Product("⊘", (above, below)):
            return [f for f in entrywise_halves(above)[0] if f != t.Number(1)], entrywise_halves(below)[0]
    return [tree], []


def entrywise_factors(tree: t.Tree) -> tuple[t.Tree, ...]:
    return tree.factors if isinstance(tree, t.Product) and tree.operator == "∘" else (tree,)


def is_sum(tree: t.Tree) -> bool:
    return isinstance(tree, t.Sum)


def is_moving(tree: t.Tree) -> bool:
    """Whether a factor is a differential or a basis vector, which stand last."""
    return isinstance(tree, t.Name) and (is_differential(tree.name) or tree.name.startswith("e_"))


def columns_product(pieces: Sequence[Piece]) -> t.Tree:
    return pieces[0].tree if len(pieces) == 1 else hadamard([piece.tree for piece in pieces])


def chain(tree: t.Tree | None) -> list[t.Tree]:
    """The factors of a matrix product."""
    if tree is None:
        return []
    return list(tree.factors) if isinstance(tree, t.Product) and tree.operator == "@" else [tree]


def scaled(sign: int, number: Number, scalars: Sequence[t.Tree], tree: t.Tree | None) -> t.Tree:
    """Numbers, then scalars, then the matrix; what stands below a line beside what the matrix has there."""
    above: list[t.Tree] = []
    below: list[t.Tree] = []
    for scalar in scalars:
        top, under = halves(scalar)
        above += top
        below += under
    number, above, tree, below = averaged(number, opened(above), tree, opened(below))
    above, below = (sorted(part, key=lambda one: not isinstance(one, t.Number | t.Name)) for part in (above, below))
    if isinstance(tree, t.Product) and tree.operator in ("/", "⊘"):
        whole, under_whole = tree.factors
        top_number = with_number(number, [*counted(above), *([] if whole == t.Number(1) else [whole])], counted(below))
        if isinstance(top_number, t.Product) and top_number.operator == "/":
            top_number, under_number = top_number.factors
            under_whole = t.product("*", (*flattened(under_number), *flattened(under_whole)))
        result: t.Tree = t.Product(tree.operator, (top_number, under_whole))
    else:
        result = with_number(number, [*counted(above), *([tree] if tree is not None else [])], counted(below))
    return result if sign > 0 else t.Negative(result)


# --- means --------------------------------------------------------------------------------------------------------


def total(tree: t.Tree, size: t.Tree) -> t.Tree:
    """The sum of all entries, marked with how many there are."""
    return t.Call("sum", (tree,), (("size", size),))


def opened(trees: Sequence[t.Tree]) -> list[t.Tree]:
    """Factors with powers written out."""
    found: list[t.Tree] = []
    for tree in trees:
        match tree:
            case t.Power(base, t.Number(int(count))) if count > 0:
                found += [base] * count
            case _:
                found.append(tree)
    return found


def averaged(
    number: Number, above: list[t.Tree], tree: t.Tree | None, below: list[t.Tree]
) -> tuple[Number, list[t.Tree], t.Tree | None, list[t.Tree]]:
    """A product over a line with its sums over as many entries as stand below the line as means."""
    for place, factor in enumerate(above):
        match factor:
            case t.Call("sum", (whole,), (("size", size),)) if (rest := divided(size, number, below)) is not None:
                number, below = rest
                above[place] = t.Call("mean", (whole,))
    factors = chain(tree)
    found = [(place, *both) for place, pair in enumerate(pairwise(factors)) if (both := totals(*pair)) is not None]
    if len(found) == 1:  # of Xᵀ 1 1ᵀ X, neither half
        place, size, means = found[0]
        rest = divided(size, number, below)
        if rest is not None:
            number, below = rest
            tree = t.product("@", (*factors[:place], means, *factors[place + 2 :]))
    return number, above, tree, below


def totals(first: t.Tree, second: t.Tree) -> tuple[t.Tree, t.Tree] | None:
    """Of a matrix beside a vector of ones, over how many entries it sums, and the means in place of the sums."""
    match first, second:
        case (t.Transpose(t.Call("ones")), t.Call("ones")) | (t.Call("ones"), t.Transpose(t.Call("ones"))):
            return None
        case t.Transpose(whole), t.Call("ones", (size,)):
            return size, t.Call("mean", (whole,), (("axis", t.Number(0)),))
        case whole, t.Call("ones", (size,)):
            return size, t.Call("mean", (whole,), (("axis", t.Number(1)),))
        case t.Transpose(t.Call("ones", (size,))), t.Transpose(whole):
            return size, t.Transpose(t.Call("mean", (whole,), (("axis", t.Number(1)),)))
        case t.Transpose(t.Call("ones", (size,))), whole:
            return size, t.Transpose(t.Call("mean", (whole,), (("axis", t.Number(0)),)))
    return None


def divided(size: t.Tree, number: Number, below: Sequence[t.Tree]) -> tuple[Number, list[t.Tree]] | None:
    """A number over factors, times a size that cancels with them; None where it does not."""
    left = list(below)
    for factor in opened(flattened(size)):
        if factor in left:
            left.remove(factor)
            continue
        match factor, number:
            case t.Number(int(count)), Fraction(denominator=parts) if parts % count == 0:
                number *= count
            case _:
                return None
    return number.numerator if isinstance(number, Fraction) and number.denominator == 1 else number, left


def flattened(tree: t.Tree) -> tuple[t.Tree, ...]:
    """The factors of a product with numbers."""
    return tree.factors if isinstance(tree, t.Product) and tree.operator == "*" else (tree,)


def without_transposes(tree: t.Tree, symmetric: Set[t.Tree]) -> t.Tree:
    """The tree with Sᵀ written as S for symmetric matrices."""
    if isinstance(tree, t.Transpose) and tree.operand in symmetric:
        return without_transposes(tree.operand, symmetric)
    return t.mapped(tree, lambda part: without_transposes(part, symmetric))


def strip(tree: t.Tree) -> t.Tree:
    """Take off the marks that only printing needs: of diagonal matrices, identities, sums, divisions of entries."""
    if isinstance(tree, t.Call) and is_diagonal(tree):
        return t.Call("diag", tuple(strip(a) for a in tree.arguments))
    if isinstance(tree, t.Product) and tree.operator == "⊘":
        return t.Product("/", tuple(map(strip, tree.factors)))
    if isinstance(tree, t.Call) and tree.function == "sum":
        return t.Call("sum", tuple(strip(a) for a in tree.arguments))
    if tree == IDENTITY:
        return t.Name("I")
    return t.mapped(tree, strip)
