"""The matrix form: contractions recognised as products of matrices, Hadamard and Kronecker products, by reduction.

The labels of a contraction are the vertices of a graph, its matrices edges, its vectors weights of vertices. Summed
vertices are reduced: one with two edges makes a matrix product, one with one edge a matrix times a vector, one with
none a scalar; parallel edges make a Hadamard product. What is left are the output labels, and components that touch one
row and one column at the most, which are the factors of a Kronecker product. An edge between two row labels is
diag(vec(M)) on the left, between two column labels on the right. What does not reduce is an `einsum(...)` term.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from tensordsl.contraction import Operand, as_operands, contract, is_repeated, is_zero, number_of, without_axes
from tensordsl.dims import AnySize, product
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Pattern, Primitive, Select, Sum, Symbol
from tensordsl.facts import is_symmetric
from tensordsl.labels import Group, Label, flat
from tensordsl.notation import tree as t
from tensordsl.printing.index import common_number, elementwise_tree, pattern_tree, slice_tree
from tensordsl.printing.names import (
    constant_tree,
    number_tree,
    ordered_terms,
    primitive_call,
    sign_and_magnitude,
    signed,
    size_tree,
    softmax_argument,
)
from tensordsl.printing.pieces import (
    IDENTITY,
    Piece,
    chain,
    columns_product,
    diagonal,
    hadamard,
    is_diagonal,
    position,
    scaled,
    strip,
    times,
    transposed,
    transposes,
)
from tensordsl.program.kernels import LETTERS
from tensordsl.rewrites.factors import Factored, arranged, common_factors, distributed, sharing


class Irreducible(Exception):
    """A contraction that is no product of matrices; caught here, where it becomes an einsum term."""


@dataclass(eq=False)
class Edge:
    """A matrix between two labels: its rows are `u`, its columns `v`."""

    u: Label
    v: Label
    piece: Piece


@dataclass(eq=False)
class Graph:
    sizes: dict[Label, AnySize]
    kept: set[Label]
    edges: list[Edge] = field(default_factory=list)
    weights: dict[Label, list[Piece]] = field(default_factory=dict)
    scalars: list[t.Tree] = field(default_factory=list)


class MatrixPrinter:
    """Prints matrices, vectors as columns, scalars. `sized` writes the size of every identity."""

    def __init__(
        self, sized: bool, symbols: frozenset[Symbol], dims: frozenset[str], positions: frozenset[str]
    ) -> None:
        self.sized = sized
        self.positions = positions
        self.symmetric: set[t.Tree] = set()  # what was written for matrices that are their own transposes
        self.taken = {symbol.name for symbol in symbols}  # special names must not be these
        self.dims = dims

    # --- nodes ----------------------------------------------------------------------------------------------------

    def tree(self, node: Expr) -> t.Tree:
        """The tree of a node in matrix notation."""
        tree = self.written(node)
        if is_symmetric(node):
            self.symmetric.add(tree)
        return tree

    def written(self, node: Expr) -> t.Tree:
        if isinstance(node, Symbol):
            return t.Name(node.name)
        if isinstance(node, Constant):
            return constant_tree(node)
        if isinstance(node, Elementwise):
            x = softmax_argument(node)
            if x is not None:
                return t.Call("softmax", (self.tree(x),))
            return elementwise_tree(node, tuple(self.argument(child) for child in node.children), node.ndim > 0)
        if isinstance(node, Primitive):
            return primitive_call(node, map(self.tree, node.children))
        if isinstance(node, Select):
            return self.selection(node) if node.length is not None else self.basis(node)
        if isinstance(node, Sum):
            return self.sum(node)
        sign, tree = self.term(node)
        return tree if sign > 0 else t.Negative(tree)

    def argument(self, node: Expr) -> t.Tree:
        value = number_of(node)
        return self.tree(node) if value is None else number_tree(value)

    def sum(self, node: Sum) -> t.Tree:
        factored = arranged(node)
        if factored is not node:
            return self.tree(factored)
        return self.added(ordered_terms(node))

    def placed(self, node: Expr, places: Sequence[int]) -> t.Tree:
        piece = Piece(self.tree(node))
        return piece.tree if tuple(places) == (0, 1) else transposed(piece).tree

    def added(self, terms: Sequence[Expr]) -> t.Tree:
        """A sum of terms, what they have in common taken out: numbers, Hadamard factors, products on either side."""
        number, bodies = common_number(terms)
        sign, size = sign_and_magnitude(number)
        full = {body for body in bodies if not all(is_repeated(body, axis) for axis in range(body.ndim))}
        parts: list[tuple[int, t.Tree]] = []
        for group in sharing(bodies) if is_matrix(bodies) else [[body] for body in bodies]:
            common, rest = common_factors(group) if len(group) > 1 else Factored((), tuple(group))
            if common and all(len(places) == 2 for _, places in common):
                shared = [self.placed(factor, places) for factor, places in common]
                parts.append((1, t.Product("∘", (*shared, self.added(rest)))))
            else:  # a scalar is added to every entry
                parts += [self.term(body) if body in full or not full else self.scalar(body) for body in group]
        if len(parts) == 1:
            return scaled(sign * parts[0][0], size, [], parts[0][1])
        chains = [chain(tree) for _, tree in parts]
        left = 0
        while all(len(c) > left + 1 for c in chains) and len({c[left] for c in chains}) == 1:
            left += 1
        right = 0
        while all(len(c) > left + right + 1 for c in chains) and len({c[-1 - right] for c in chains}) == 1:
            right += 1
        inner = t.Sum(
            tuple((s, t.product("@", tuple(c[left : len(c) - right]))) for (s, _), c in zip(parts, chains, strict=True))
        )
        first = chains[0]
        whole = t.product("@", (*first[:left], inner, *first[len(first) - right :]))
        return scaled(sign, size, [], whole)

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
        opened = distributed(node)
        if opened is not node:
            return 1, self.tree(opened)
        coefficient, operands = signed(node.coefficient, as_operands(node)[1])
        sign, size = sign_and_magnitude(coefficient)
        try:
            scalars, tree = self.reduced(node, operands)
        except Irreducible:
            scalars, tree = [], self.einsum(node, operands)
        return sign, scaled(1, size, scalars, tree)

    # --- reduction ------------------------------------------------------------------------------------------------

    def reduced(self, node: Contraction, operands: Sequence[Operand]) -> tuple[list[t.Tree], t.Tree | None]:
        """Scalars and a matrix (None for the number one) whose product is the contraction."""
        if node.ndim > 2:
            raise Irreducible
        tree = self.triangle(node)
        if tree is not None:
            return [], tree
        graph = self.graph(node, operands)
        reduce(graph, self)
        rows: Group = node.output[0] if node.ndim else ()
        columns: Group = node.output[1] if node.ndim == 2 else ()
        return graph.scalars, self.kronecker(graph, rows, columns, node.ndim)

    def triangle(self, node: Contraction) -> t.Tree | None:
        """The elimination matrix, two selections that share their row, times the contraction that they take from; the
        duplication matrix where its rows are the two axes of the value. Both are taken without the coefficient."""
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
            size = size_tree(rows.size)
            tree = self.tree(inner)
            if isinstance(tree, t.Call) and tree.function == "vec" and node.ndim == 1:
                return t.Call("vech", tree.arguments)
            both = chain(tree) if tree != IDENTITY else []
            if output[0] == place:
                return t.product("@", (t.Call("elimination", (size,)), *both))
            return t.product("@", (*both, t.Transpose(t.Call("elimination", (size,)))))
        if "duplication" in patterns:
            doubled, slots = patterns["duplication"]
            if len(slots[0]) == 2 and output == tuple((label,) for label in reversed(slots[0])):
                label = max(sizes) + 1
                inner = contract(
                    1,
                    [(f, ((label,), s[1]) if f is doubled else s) for f, s in operands],
                    ((label,),),
                    {label: doubled.shape[0], **{la: size for la, size in sizes.items() if la not in slots[0]}},
                )
                size = size_tree(sizes[slots[0][0]])
                return t.Call("unvec", (self.tree(inner), t.Items((size, size), True)))
        return None

    def graph(self, node: Contraction, operands: Sequence[Operand]) -> Graph:
        graph = Graph(dict(enumerate(node.sizes)), set(flat(node.output)))
        bound = {label for slots in node.slots for label in flat(slots)}
        for factor, slots in operands:
            labels = flat(slots)
            if len(labels) > 2 or (len(labels) == 2 and factor.ndim == 2 and any(len(g) != 1 for g in slots)):
                raise Irreducible
            if isinstance(factor, Select) and factor.length is None and len(labels) == 1:
                graph.weights.setdefault(labels[0], []).append(Piece(self.basis(factor), select=factor))
                continue
            sliced = isinstance(factor, Select) and factor.ndim == 2 and not isinstance(factor.positions, Pattern)
            piece = Piece(self.tree(factor), select=factor if sliced else None)  # type: ignore[arg-type]
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
                graph.scalars.append(self.length(size))
        return graph

    def kronecker(self, graph: Graph, rows: Group, columns: Group, ndim: int) -> t.Tree | None:
        """What is left after reduction: a Kronecker product, with diagonal factors on its sides."""
        for side, other in ((rows, columns), (columns, rows)):
            if self.is_stacked_diagonal(graph, side, other):
                weights = self.weight(graph, side[0])
                square = diagonal(weights[0]) if weights else self.identity(graph.sizes[side[0]])
                stack = t.Call("vec", (square,))
                if side is rows:
                    rest = chain(self.kronecker(graph, (), columns, 2)) if columns else []
                    return t.product("@", (stack, *rest))
                rest = chain(self.kronecker(graph, rows, (), 2)) if rows else []
                return t.product("@", (*rest, t.Transpose(stack)))
        if len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
            raise Irreducible
        left: list[t.Tree] = []
        right: list[t.Tree] = []
        free: list[Edge] = []
        for edge in graph.edges:
            both_rows = edge.u in rows and edge.v in rows
            both_columns = edge.u in columns and edge.v in columns
            shared = {edge.u, edge.v} & set(rows) & set(columns)
            side = rows if both_rows else columns
            if (both_rows or both_columns) and not shared and _adjacent(side, edge) and not self.touched(graph, edge):
                free.append(edge)  # a stacked matrix is a factor of its own
            elif both_rows and len(rows) == 2:
                left.append(diagonal(stacked(edge, rows)))
            elif both_columns and len(columns) == 2:
                right.append(diagonal(stacked(edge, columns)))
            elif both_rows or both_columns:
                raise Irreducible
            else:
                free.append(edge)
        khatri_rao = self.khatri_rao(graph, free, rows, columns)
        if khatri_rao is not None and not left and not right:
            return khatri_rao
        blocks = self.blocks(graph, free, rows, columns)
        order = [c for _, cs, _ in blocks for c in cs]
        commuted = None
        if order != list(columns):
            row_order = sorted(blocks, key=lambda b: [columns.index(c) for c in b[1]] or [-1])
            if [r for rs, _, _ in row_order for r in rs] == list(rows):
                blocks = row_order
            elif len(order) == 2 and len(columns) == 2:
                # rows of K: the order of the blocks; columns of K: the order of the output
                commuted = self.commutation(graph.sizes[order[0]], graph.sizes[order[1]])
            else:
                raise Irreducible
        trees = [tree for _, _, tree in blocks]
        if not trees:
            whole = None
        else:
            whole = t.product("⊗", tuple(trees))
            if (
                len(blocks) > 1
                and all(rs == cs and not graph.weights.get(rs[0]) for rs, cs, _ in blocks if rs)
                and all(len(rs) == len(cs) == 1 for rs, cs, _ in blocks)
            ):
                size = product(graph.sizes[rs[0]] for rs, _, _ in blocks)
                whole = None if left or right or commuted is not None else self.identity(size)
            if ndim == 1 and all(not rs for rs, _, _ in blocks):
                raise Irreducible
        factors = [*left, *(tree for tree in (whole, commuted) if tree is not None), *right]
        if not factors:
            return None
        return t.product("@", tuple(part for f in factors for part in chain(f)))

    def is_stacked_diagonal(self, graph: Graph, side: Group, other: Group) -> bool:
        """Whether a group is one label twice, which stands nowhere else: vec of a diagonal matrix."""
        return (
            len(side) == 2
            and side[0] == side[1]
            and side[0] not in other
            and not any(side[0] in (edge.u, edge.v) for edge in graph.edges)
        )

    def khatri_rao(self, graph: Graph, edges: Sequence[Edge], rows: Group, columns: Group) -> t.Tree | None:
        """One matrix for each row label, all with the same column: the columnwise Kronecker product."""
        if len(rows) < 2 or len(columns) != 1 or columns[0] in rows or len(edges) != len(rows):
            return None
        by_row = {edge.u if edge.v == columns[0] else edge.v: edge for edge in edges if columns[0] in (edge.u, edge.v)}
        if set(by_row) != set(rows) or any(graph.weights.get(label) for label in (*rows, *columns)):
            return None
        tree = oriented(by_row[rows[0]], rows[0]).tree
        for row in rows[1:]:
            tree = t.Call("khatri_rao", (tree, oriented(by_row[row], row).tree))
        return tree

    def touched(self, graph: Graph, edge: Edge) -> bool:
        return any(other is not edge and {other.u, other.v} & {edge.u, edge.v} for other in graph.edges)

    def blocks(
        self,
        graph: Graph,
        edges: Sequence[Edge],
        rows: Group,
        columns: Group,
    ) -> list[tuple[Group, Group, t.Tree]]:
        """The Kronecker factors in the order of their rows: row labels, column labels, tree."""
        found: list[tuple[Group, Group, t.Tree]] = []
        used: set[Label] = set()
        for edge in edges:
            if {edge.u, edge.v} & used:
                raise Irreducible
            used |= {edge.u, edge.v}
            side = rows if edge.u in rows and edge.v in rows else columns
            if edge.u in side and edge.v in side:
                if graph.weights.get(edge.u) or graph.weights.get(edge.v):
                    raise Irreducible
                first, second = (edge.u, edge.v) if side.index(edge.u) < side.index(edge.v) else (edge.v, edge.u)
                stack = t.Call("vec", (oriented(edge, second).tree,))
                both = (first, second)
                found.append((both, (), stack) if side is rows else ((), both, t.Transpose(stack)))
                continue
            row, column = (edge.u, edge.v) if edge.u in rows else (edge.v, edge.u)
            if row not in rows or column not in columns or row in columns or column in rows:
                raise Irreducible
            piece = oriented(edge, row)
            by_row, by_column = self.weight(graph, row), self.weight(graph, column)
            if by_row and by_column and len(chain(piece.tree)) == 1:
                outer = t.product("@", (*chain(by_row[0]), *chain(transposed(Piece(by_column[0])).tree)))
                found.append(((row,), (column,), hadamard([piece.tree, outer])))
                continue
            parts = [*map(diagonal, by_row), *chain(piece.tree), *map(diagonal, by_column)]
            found.append(((row,), (column,), t.product("@", tuple(parts))))
        for label in dict.fromkeys((*rows, *columns)):
            if label in used:
                continue
            weights = self.weight(graph, label)
            if label in rows and label in columns:
                tree = diagonal(weights[0]) if weights else self.identity(graph.sizes[label])
                found.append(((label,), (label,), tree))
            elif label in rows:
                found.append(((label,), (), weights[0] if weights else self.ones(graph.sizes[label])))
            else:
                tree = weights[0] if weights else self.ones(graph.sizes[label])
                found.append(((), (label,), transposed(Piece(tree)).tree))
        found.sort(key=lambda block: rows.index(block[0][0]) if block[0] else len(rows))
        flat_rows = [r for rs, _, _ in found for r in rs]
        if flat_rows != list(rows):
            raise Irreducible
        if len(found) == 2 and len(rows) == 1 and len(columns) == 1 and found[0][0] and not found[0][1]:
            # a column times a row is written as their product
            return [(rows, columns, t.product("@", (*chain(found[0][2]), *chain(found[1][2]))))]
        return found

    def weight(self, graph: Graph, label: Label) -> list[t.Tree]:
        """The weight of a label as one column, if it has any."""
        pieces = graph.weights.get(label, [])
        return [columns_product(pieces)] if pieces else []

    # --- special matrices -----------------------------------------------------------------------------------------

    def identity(self, size: AnySize) -> t.Tree:
        if "I" in self.taken:
            return t.Call("identity", (size_tree(size),))
        return t.Call("I", (size_tree(size),)) if self.sized else IDENTITY

    def commutation(self, rows: AnySize, columns: AnySize) -> t.Tree:
        sizes = (size_tree(rows), size_tree(columns))
        if "K" in self.taken:
            return t.Call("commutation", sizes)
        return t.Call("K", sizes) if self.sized else t.Name("K")

    def length(self, size: AnySize) -> t.Tree:
        """A size as a number: by its name if the text shows it elsewhere, for a reader knows no other."""
        known = isinstance(size, int) or size.names <= self.dims
        return size_tree(size) if known else t.Call("sum", (self.ones(size),))

    def ones(self, size: AnySize) -> t.Tree:
        return t.Call("ones", (size_tree(size),))

    def selection(self, node: Select) -> t.Tree:
        """Rows of the identity, or the matrix of a pattern by its name."""
        if isinstance(node.positions, Pattern):
            return pattern_tree(node.positions)
        cut = slice_tree(node)
        name = t.Call("I" if "I" not in self.taken else "identity", (size_tree(node.size),))
        return t.Subscript(name, (cut, t.Slice(None, None, None)))

    def basis(self, node: Select) -> t.Tree:
        if str(node.start) in self.positions:
            return t.Name(f"e_{node.start}")
        return t.Call("basis", (size_tree(node.size), size_tree(node.start)))

    # --- fallback -------------------------------------------------------------------------------------------------

    def einsum(self, node: Contraction, operands: Sequence[Operand]) -> t.Tree:
        """The contraction as an einsum term: repeated output letters are δ, letters in parentheses one axis."""
        names: dict[Label, str] = {}

        def group_text(group: Group) -> str:
            text = "".join(names.setdefault(label, LETTERS[len(names)]) for label in group)
            return text if len(group) == 1 else f"({text})"

        left = ",".join("".join(group_text(g) for g in slots) for slots in node.slots)
        right = "".join(group_text(g) for g in node.output)
        single = {label for slots in node.slots for group in slots if len(group) == 1 for label in group}
        options = tuple((names[la], size_tree(node.sizes[la])) for la in names if la not in single)
        gone = [la for la in range(len(node.sizes)) if la not in names]
        tree: t.Tree = t.Call("einsum", (t.Text(f"{left}->{right}"), *(self.tree(f) for f, _ in operands)), options)
        for label in gone:
            tree = t.Product("*", (self.length(node.sizes[label]), tree))
        return tree


# --- reducing -----------------------------------------------------------------------------------------------------


def reduce(graph: Graph, printer: MatrixPrinter) -> None:
    """Eliminate the summed labels; ends, as every round takes away a label or an edge."""
    while True:
        summed = [
            la
            for la in graph.sizes
            if la not in graph.kept and (la in graph.weights or any(la in (e.u, e.v) for e in graph.edges))
        ]
        degree = {la: [e for e in graph.edges if la in (e.u, e.v)] for la in graph.sizes}
        if eliminate(graph, summed, degree, printer) or merge_parallel(graph, degree):
            continue
        if summed:
            raise Irreducible
        return


def eliminate(graph: Graph, summed: Sequence[Label], degree: dict[Label, list[Edge]], printer: MatrixPrinter) -> bool:
    for wanted in (2, 1, 0):
        for label in summed:
            edges = degree[label]
            if len(edges) != wanted:
                continue
            weights = list(graph.weights.get(label, []))
            if wanted == 0:
                graph.weights.pop(label)
                graph.scalars.append(inner_product(weights, graph.sizes[label], printer))
                return True
            if wanted == 1:
                (edge,) = edges
                other = edge.v if edge.u == label else edge.u
                graph.edges.remove(edge)
                graph.weights.pop(label, None)
                if not weights and other in summed and len(degree[other]) == 1 and not graph.weights.get(other):
                    graph.scalars.append(t.Call("sum", (edge.piece.tree,)))
                    return True
                column = (
                    weights[0]
                    if len(weights) == 1
                    else Piece(columns_product(weights), column=True)
                    if weights
                    else Piece(printer.ones(graph.sizes[label]), column=True)
                )
                graph.weights.setdefault(other, []).append(times(oriented(edge, other), column))
                return True
            first, second = edges
            a = first.v if first.u == label else first.u
            b = second.v if second.u == label else second.u
            if a == b and a in summed and len(degree[a]) == 2 and not graph.weights.get(a):
                pass  # two summed labels with two edges between them: a trace
            elif a == b and a not in graph.kept:
                continue  # parallel edges, to be merged first
            graph.edges.remove(first)
            graph.edges.remove(second)
            graph.weights.pop(label, None)
            middle = [Piece(diagonal(columns_product(weights)))] if weights else []
            joined = oriented(first, a)
            for part in (*middle, oriented(second, label)):
                joined = times(joined, part)
            if a != b:
                graph.edges.append(Edge(a, b, joined))
            elif a in summed:
                graph.scalars.append(t.Call("trace", (min((joined.tree, transposed(joined).tree), key=transposes),)))
            else:
                graph.weights.setdefault(a, []).append(Piece(t.Call("diag", (joined.tree,))))
            return True
    return False


def merge_parallel(graph: Graph, degree: dict[Label, list[Edge]]) -> bool:
    """Two edges between the same labels are their Hadamard product."""
    for place, first in enumerate(graph.edges):
        for second in graph.edges[place + 1 :]:
            if {first.u, first.v} == {second.u, second.v}:
                graph.edges.remove(second)
                first.piece = Piece(hadamard([first.piece.tree, oriented(second, first.u).tree]))
                return True
    return False


def inner_product(weights: Sequence[Piece], size: AnySize, printer: MatrixPrinter) -> t.Tree:
    """Σ w₁w₂⋯ of columns."""
    if len(weights) == 1:
        match weights[0].tree:
            case t.Call("diag", (whole,)) as diagonal_of if not is_diagonal(diagonal_of):
                return t.Call("trace", (whole,))
        return t.Call("sum", (weights[0].tree,))
    for place, weight in enumerate(weights):
        if weight.select is not None:  # an entry of a column
            rest = [w for p, w in enumerate(weights) if p != place]
            return t.Subscript(columns_product(rest), (position(weight.select),))
    *first, last = weights
    tree = times(transposed(Piece(columns_product(first))), last).tree
    turned = transposed(Piece(tree)).tree  # a scalar is its own transpose: the one with fewer is written
    return min((tree, turned), key=transposes)


def oriented(edge: Edge, row: Label) -> Piece:
    """The matrix of an edge with its rows along `row`."""
    return edge.piece if edge.u == row else transposed(edge.piece)


def stacked(edge: Edge, group: Group) -> t.Tree:
    return t.Call("vec", (oriented(edge, group[1]).tree,))


def is_matrix(terms: Sequence[Expr]) -> bool:
    """Whether terms are matrices whose axes are not grouped."""
    return all(term.ndim == 2 and all(len(group) == 1 for group in as_operands(term)[2]) for term in terms)


def _adjacent(rows: Group, edge: Edge) -> bool:
    return abs(rows.index(edge.u) - rows.index(edge.v)) == 1


def matrix_tree(node: Expr, sized: bool = False, positions: frozenset[str] = frozenset()) -> t.Tree:
    """The tree of the matrix form; the basis vectors at named positions read e_k."""
    printer = MatrixPrinter(sized, node.symbols, frozenset(dim.name for dim in node.dims), positions)
    tree = printer.tree(node)
    return strip(without_transposes(tree, printer.symmetric))


def without_transposes(tree: t.Tree, symmetric: Set[t.Tree]) -> t.Tree:
    """The tree with Sᵀ written as S for symmetric matrices."""
    if isinstance(tree, t.Transpose) and tree.operand in symmetric:
        return without_transposes(tree.operand, symmetric)
    return t.mapped(tree, lambda part: without_transposes(part, symmetric))
