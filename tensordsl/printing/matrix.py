"""The matrix form: contractions recognised as products of matrices, Hadamard and Kronecker products, by reduction.

The labels of a contraction are the vertices of a graph, its matrices edges, its vectors weights of vertices. Summed
vertices are reduced: one with two edges makes a matrix product, one with one edge a matrix times a vector, one with
none a scalar; parallel edges make a Hadamard product. What is left are the output labels, and components that touch one
row and one column at the most, which are the factors of a Kronecker product. An edge between two row labels is
diag(vec(M)) on the left, between two column labels on the right. What does not reduce is an `einsum(...)` term.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from tensordsl.contraction import (
    Operand,
    as_operands,
    contract,
    is_repeated,
    is_zero,
    number_of,
    scale,
    split_coefficient,
    without_axes,
)
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Number, Pattern, Primitive, Select, Sum, Symbol
from tensordsl.facts import is_symmetric
from tensordsl.labels import Group, Label, flat
from tensordsl.notation import tree as t
from tensordsl.printing.blocks import blocks, grid, is_structure, without_axis
from tensordsl.printing.common import added_up, common_number, common_scalars, merged, unstacked
from tensordsl.printing.kronecker import kronecker
from tensordsl.printing.names import (
    constant_tree,
    elementwise_tree,
    in_order,
    is_negative,
    number_tree,
    ordered_terms,
    primitive_call,
    sign_and_magnitude,
    signed,
    signed_tree,
    size_tree,
    softmax_argument,
)
from tensordsl.printing.pieces import (
    IDENTITY,
    Piece,
    chain,
    hadamard,
    scaled,
    strip,
    transposed,
    turned,
    without_transposes,
)
from tensordsl.printing.readable import readable
from tensordsl.printing.reduction import Edge, Graph, Irreducible, reduce
from tensordsl.printing.special import Special
from tensordsl.printing.sums import factored_out, unscaled
from tensordsl.program.kernels import LETTERS
from tensordsl.rewrites.factors import Factored, arranged, common_factors, distributed, sharing


class Place(IntEnum):
    """Where a sum stands, and so what may be added to all of its entries without a vector of ones.

    Alone, a number or a mean to a column: x - 1, but A - 1 1ᵀ, since A - 1 might mean A - I. In a Hadamard product any
    number, in the argument of a function any scalar.
    """

    ALONE = 0
    FACTOR = 1
    ARGUMENT = 2


class MatrixPrinter:
    """Prints matrices, vectors as columns, scalars."""

    def __init__(self, special: Special) -> None:
        self.special = special
        self.symmetric: set[t.Tree] = set()  # what was written for matrices that are their own transposes

    # --- nodes ----------------------------------------------------------------------------------------------------

    def tree(self, node: Expr, place: Place = Place.ALONE) -> t.Tree:
        """The tree of a node in matrix notation."""
        tree = self.written(node, place)
        if is_symmetric(node):
            self.symmetric.add(tree)
        return tree

    def written(self, node: Expr, place: Place) -> t.Tree:
        if isinstance(node, Symbol):
            return t.Name(node.name)
        if isinstance(node, Constant):
            return constant_tree(node)
        if isinstance(node, Elementwise):
            return self.elementwise(node)
        if isinstance(node, Primitive):
            return primitive_call(node, [self.whole(child, node.ndim) for child in node.children])
        if isinstance(node, Select):
            return self.special.selection(node) if node.length is not None else self.special.basis(node)
        if node.ndim == 2 and node.shape[0] == 1 != node.shape[1]:  # a row is the transpose of a column
            return turned(self.tree(without_axis(node, 0), place))
        side_by_side = self.blocks(node)
        if side_by_side is not None:
            return side_by_side
        return self.sum(node, place) if isinstance(node, Sum) else signed_tree(*self.term(node))

    def elementwise(self, node: Elementwise) -> t.Tree:
        x = softmax_argument(node)
        if x is not None:
            return t.Call("softmax", (self.tree(x, Place.ARGUMENT),))
        known = not all(map(is_constant, node.children))  # another argument says how many entries there are
        return elementwise_tree(node, tuple(self.argument(child, known) for child in node.children), node.ndim > 0)

    def argument(self, node: Expr, known: bool) -> t.Tree:
        """An argument of a function of entries; a scalar where it is the same all over and its shape is `known`."""
        value = number_of(node)
        if value is not None:
            return number_tree(value)
        if known and is_constant(node):
            node = without_axes(node, list(range(node.ndim)))
        return self.tree(node, Place.ARGUMENT)

    def whole(self, node: Expr, ndim: int) -> t.Tree:
        """An argument of a function of vectors along the last axis: a row where it is one beside matrices."""
        tree = self.tree(node)
        return turned(tree) if node.ndim == 1 and ndim == 2 else tree

    def sum(self, node: Sum, place: Place) -> t.Tree:
        factored = arranged(node)
        if factored is not node:
            return self.tree(factored, place)
        terms = ordered_terms(node)
        opened = unstacked(terms)
        if opened is not None and all(is_stack(self.term(term)[1]) for term in terms):
            less = all(map(is_negative, terms))
            stack = t.Call("vec", (self.tree(scale(-1, opened) if less else opened),))
            return signed_tree(-1 if less else 1, stack)
        return self.added(terms, place)

    def blocks(self, node: Expr) -> t.Tree | None:
        """A tensor of pieces side by side, as one column or as a matrix of blocks."""
        found = blocks(node) if node.ndim in (1, 2) else None
        if found is None or (isinstance(node, Contraction) and all(map(is_structure, found.pieces))):
            return None
        if node.ndim == 2:
            rows = grid(node)
            return block(
                [
                    [self.cell(cell, row, column) for cell, column in zip(row, zip(*rows, strict=True), strict=True)]
                    for row in rows
                ]
            )
        scalars = [piece.shape == (1,) for piece in found.pieces]
        pieces = [self.tree(without_axis(p, 0) if one else p) for p, one in zip(found.pieces, scalars, strict=True)]
        if any(scalars) and not all(scalars):
            return block([[piece] for piece in pieces])
        return t.Call("stack" if all(scalars) else "concatenate", (t.Items(tuple(pieces)),))

    def cell(self, node: Expr, row: Sequence[Expr], column: Sequence[Expr]) -> t.Tree:
        """A block; zero as a number where others say its size."""
        known = any(not is_zero(other) for other in row) and any(not is_zero(other) for other in column)
        return t.Number(0) if is_zero(node) and known else self.tree(node)

    def added(self, terms: Sequence[Expr], place: Place) -> t.Tree:
        """A sum of terms, what they have in common taken out: numbers, scalars, Hadamard factors, products on either
        side."""
        number, bodies = common_number(terms)
        scalars, bodies = common_scalars(bodies)
        bodies = merged(bodies)
        sign, size = sign_and_magnitude(number)
        spread = [body for body in bodies if self.spreads(body, place)]
        parts: list[tuple[int, t.Tree]] = []
        for group in sharing(bodies) if is_matrix(bodies) else [[body] for body in bodies]:
            common, rest = common_factors(group) if len(group) > 1 else Factored((), tuple(group))
            if common and all(len(places) == 2 for _, places in common):
                shared = [self.placed(factor, places) for factor, places in common]
                if all(map(is_constant, rest)):
                    entry = self.added([without_axes(body, [0, 1]) for body in rest], Place.ALONE)
                    parts.append((1, scaled(1, 1, [entry], hadamard(shared))))
                else:
                    parts.append((1, hadamard([*shared, self.added(rest, Place.FACTOR)])))
            else:
                parts += [
                    self.scalar(body) if body in spread and len(spread) < len(bodies) else self.term(body)
                    for body in group
                ]
        whole = scaled(*parts[0][:1], 1, [], parts[0][1]) if len(parts) == 1 else factored_out(parts, not terms[0].ndim)
        if isinstance(whole, t.Negative):
            sign, whole = -sign, whole.operand
        return scaled(sign, size, [self.tree(scalar) for scalar in scalars], whole)

    def spreads(self, node: Expr, place: Place) -> bool:
        """Whether a term that is the same all over is written as a scalar."""
        if not is_constant(node):
            return False
        if place is Place.ARGUMENT:
            return True
        if number_of(node) is not None:
            return place is Place.FACTOR or node.ndim < 2
        return node.ndim == 1 and is_mean(self.scalar(node)[1])

    def placed(self, node: Expr, places: Sequence[int]) -> t.Tree:
        tree = self.tree(node, Place.FACTOR)
        return tree if tuple(places) == (0, 1) else turned(tree)

    def scalar(self, node: Expr) -> tuple[int, t.Tree]:
        """One entry of a term whose entries are all the same."""
        return self.term(without_axes(node, list(range(node.ndim))))

    def term(self, node: Expr) -> tuple[int, t.Tree]:
        """One term with its sign."""
        node = arranged(node)
        if is_zero(node):
            return 1, t.Call("zeros", tuple(size_tree(s) for s in node.shape)) if node.ndim else t.Number(0)
        if not isinstance(node, Contraction):
            return 1, self.tree(node)
        number = number_of(node)
        if number is not None and not node.ndim:
            sign, size = sign_and_magnitude(number)
            return sign, t.Number(size)
        opened = added_up(distributed(node))
        if opened is not node:
            return 1, self.tree(opened)
        coefficient, operands = signed(node.coefficient, as_operands(node)[1])
        sign, size = sign_and_magnitude(coefficient)
        reduced = self.reduced(node, operands)
        terms = expanded(node) if reduced is None else []
        if terms:
            return 1, self.added(in_order(terms), Place.ALONE)
        scalars, tree = reduced or self.einsum(node, operands)
        return sign, scaled(1, size, scalars, tree)

    # --- reduction ------------------------------------------------------------------------------------------------

    def reduced(self, node: Contraction, operands: Sequence[Operand]) -> tuple[list[t.Tree], t.Tree | None] | None:
        """Scalars and a matrix (None for the number one) whose product is the contraction; None where it is none."""
        if node.ndim > 2:
            return None
        tree = self.triangle(node)
        if tree is not None:
            return [], tree
        rows: Group = node.output[0] if node.ndim else ()
        columns: Group = node.output[1] if node.ndim == 2 else ()
        try:
            graph = self.graph(node, operands)
            reduce(graph)
            return graph.scalars, kronecker(graph, rows, columns, node.ndim)
        except Irreducible:
            return None

    def triangle(self, node: Contraction) -> t.Tree | None:
        """The elimination matrix, two selections that share their row, times the contraction that they take from; the
        duplication matrix at the end of a product, or where its rows are the two axes of the value. Both are taken
        without the coefficient."""
        _, operands, output, sizes = as_operands(node)
        patterns = {
            f.positions.name: (f, s) for f, s in operands if isinstance(f, Select) and isinstance(f.positions, Pattern)
        }
        if {"vech_rows", "vech_columns"} <= patterns.keys():
            (rows, row_slots), (columns, column_slots) = patterns["vech_rows"], patterns["vech_columns"]
            place = row_slots[0]
            if place != column_slots[0] or len(place) != 1 or output.count(place) != 1:
                return None
            rest = [operand for operand in operands if operand.node not in (rows, columns)]
            if len(rest) != len(operands) - 2 or any(place[0] in flat(slots) for _, slots in rest):
                return None
            opened = tuple((*column_slots[1], *row_slots[1]) if group == place else group for group in output)
            inner = contract(1, rest, opened, {label: size for label, size in sizes.items() if label != place[0]})
            size = size_tree(rows.axis_size)
            tree = self.tree(inner)
            if isinstance(tree, t.Call) and tree.function == "vec" and node.ndim == 1:
                return t.Call("vech", tree.arguments)
            both = chain(tree) if tree != IDENTITY else []
            if output[0] == place:
                return t.product("@", (t.Call("elimination", (size,)), *both))
            return t.product("@", (*both, t.Transpose(t.Call("elimination", (size,)))))
        for doubled, slots in operands:
            if not isinstance(doubled, Select) or doubled.title != "duplication" or len(slots[0]) != 2:
                continue
            if output == tuple((label,) for label in reversed(slots[0])):
                label = max(sizes) + 1
                inner = contract(
                    1,
                    [(f, ((label,), s[1]) if f is doubled else s) for f, s in operands],
                    ((label,),),
                    {label: doubled.shape[0], **{la: size for la, size in sizes.items() if la not in slots[0]}},
                )
                size = size_tree(sizes[slots[0][0]])
                return t.Call("unvec", (self.tree(inner), t.Items((size, size), True)))
            rest = list(operands)
            rest.remove(Operand(doubled, slots))
            place = slots[1]
            if output.count(place) == 1 and rest and not any(place[0] in flat(s) for _, s in rest):
                opened = tuple(slots[0] if group == place else group for group in output)
                inner = contract(1, rest, opened, {label: size for label, size in sizes.items() if label != place[0]})
                doubling = t.Call("duplication", (size_tree(sizes[slots[0][0]]),))
                both = chain(self.tree(inner))
                if output[0] == place:
                    return t.product("@", (t.Transpose(doubling), *both))
                return t.product("@", (*both, doubling))
        return None

    def graph(self, node: Contraction, operands: Sequence[Operand]) -> Graph:
        graph = Graph(self.special, self.symmetric, dict(enumerate(node.sizes)), set(flat(node.output)))
        bound = {label for slots in node.slots for label in flat(slots)}
        for factor, slots in operands:
            labels = flat(slots)
            if len(labels) > 2 or (len(labels) == 2 and factor.ndim == 2 and any(len(g) != 1 for g in slots)):
                raise Irreducible
            if isinstance(factor, Select) and factor.length is None and len(labels) == 1:
                graph.weights.setdefault(labels[0], []).append(
                    Piece(self.special.basis(factor), select=factor, column=True)
                )
                continue
            sliced = isinstance(factor, Select) and factor.ndim == 2 and not isinstance(factor.positions, Pattern)
            beside = any(s is not slots and set(labels) <= set(flat(s)) for _, s in operands)
            tree = self.tree(factor, Place.FACTOR if beside else Place.ALONE)
            piece = Piece(tree, select=factor if sliced else None)  # type: ignore[arg-type]
            if factor.ndim > 2 or (len(labels) < factor.ndim and factor.ndim == 2 and len(labels) == 0):
                raise Irreducible
            if not labels:
                graph.scalars.append(piece.tree)
            elif len(labels) == 1:
                if factor.ndim == 2 and not slots[0]:
                    piece = transposed(piece)
                piece.column = True
                graph.weights.setdefault(labels[0], []).append(piece)
            else:
                row, column = labels
                if factor.ndim == 1:  # a vector along a group of two labels is a matrix, unstacked
                    row, column = column, row
                    shape = t.Items((size_tree(graph.sizes[row]), size_tree(graph.sizes[column])), True)
                    piece = Piece(t.Call("unvec", (piece.tree, shape)))
                if row == column:
                    graph.weights.setdefault(row, []).append(Piece(t.Call("diag", (piece.tree,))))
                else:
                    graph.edges.append(Edge(row, column, piece))
        for label, size in graph.sizes.items():
            if label not in bound and label not in graph.kept:
                graph.scalars.append(self.special.length(size))
        return graph

    # --- fallback -------------------------------------------------------------------------------------------------

    def einsum(self, node: Contraction, operands: Sequence[Operand]) -> tuple[list[t.Tree], t.Tree]:
        """Scalars, and what they multiply as an einsum term: repeated output letters are δ, letters in parentheses one
        axis."""
        names: dict[Label, str] = {}

        def group_text(group: Group) -> str:
            text = "".join(names.setdefault(label, LETTERS[len(names)]) for label in group)
            return text if len(group) == 1 else f"({text})"

        tensors = [(factor, slots) for factor, slots in operands if factor.ndim]
        left = ",".join("".join(group_text(g) for g in slots) for _, slots in tensors)
        right = "".join(group_text(g) for g in node.output)
        single = {label for slots in node.slots for group in slots if len(group) == 1 for label in group}
        options = tuple((names[la], size_tree(node.sizes[la])) for la in names if la not in single)
        gone = [la for la in range(len(node.sizes)) if la not in names]
        scalars = [self.tree(factor) for factor, _ in operands if not factor.ndim]
        scalars += [self.special.length(node.sizes[label]) for label in gone]
        return scalars, t.Call("einsum", (t.Text(f"{left}->{right}"), *(self.tree(f) for f, _ in tensors)), options)


def is_constant(node: Expr) -> bool:
    """Whether all entries of a tensor are the same by structure."""
    return all(is_repeated(node, axis) for axis in range(node.ndim))


def expanded(node: Contraction) -> list[Expr]:
    """The terms of a product with a sum of three axes or more, which may be products of matrices each; or none. Of a
    slice of a symmetric derivative two of them may be one: they are added up, since a text would show one alone."""
    _, operands, output, sizes = as_operands(node)
    for place, (factor, slots) in enumerate(operands):
        if isinstance(factor, Sum) and factor.ndim > 2:
            rest = operands[:place] + operands[place + 1 :]
            counts: dict[Expr, Number] = {}
            for term in factor.terms:
                count, body = split_coefficient(contract(node.coefficient, [*rest, (term, slots)], output, sizes))
                counts[body] = counts.get(body, 0) + count
            return [scale(count, body) for body, count in counts.items() if count]
    return []


def is_mean(tree: t.Tree) -> bool:
    return isinstance(tree, t.Call) and tree.function == "mean"


def is_stack(tree: t.Tree) -> bool:
    """Whether a term is vec(...), scaled."""
    match unscaled(tree):
        case t.Call("vec"):
            return True
    return False


def block(rows: Sequence[Sequence[t.Tree]]) -> t.Tree:
    return t.Call("block", (t.Items(tuple(t.Items(tuple(row)) for row in rows)),))


def is_matrix(terms: Sequence[Expr]) -> bool:
    """Whether terms are matrices whose axes are not grouped."""
    return all(term.ndim == 2 and all(len(group) == 1 for group in as_operands(term)[2]) for term in terms)


def matrix_tree(node: Expr, sized: bool = False, positions: frozenset[str] = frozenset()) -> t.Tree:
    """The tree of the matrix form; the basis vectors at named positions read e_k."""
    shown = readable(node)
    names = frozenset(symbol.name for symbol in node.symbols)
    printer = MatrixPrinter(Special(sized, names, frozenset(dim.name for dim in node.dims), positions))
    tree = printer.tree(shown)
    return strip(without_transposes(tree, printer.symmetric))
