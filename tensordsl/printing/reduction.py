"""Contractions as graphs, and their reduction to products of matrices.

The labels are the vertices, matrices the edges, vectors weights of vertices. A summed vertex with two edges makes a
matrix product, with one edge a matrix times a vector, with none a scalar; parallel edges make a Hadamard product.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from tensordsl.dims import AnySize, product
from tensordsl.labels import Label
from tensordsl.notation import tree as t
from tensordsl.printing.names import is_differential, size_tree
from tensordsl.printing.pieces import (
    Piece,
    chain,
    columns_product,
    diagonal,
    hadamard,
    is_diagonal,
    position,
    times,
    total,
    transposed,
    transposes,
    turned,
    without_transposes,
)
from tensordsl.printing.special import Special


class Irreducible(Exception):
    """A contraction that is no product of matrices; caught in the printer, where it becomes an einsum term."""


@dataclass(eq=False)
class Edge:
    """A matrix between two labels: its rows are `u`, its columns `v`."""

    u: Label
    v: Label
    piece: Piece


@dataclass(eq=False)
class Graph:
    special: Special
    symmetric: Set[t.Tree]  # what is its own transpose
    sizes: dict[Label, AnySize]
    kept: set[Label]
    edges: list[Edge] = field(default_factory=list)
    weights: dict[Label, list[Piece]] = field(default_factory=dict)
    scalars: list[t.Tree] = field(default_factory=list)


def reduce(graph: Graph) -> None:
    """Eliminate the summed labels; ends, as every round takes away a label or an edge."""
    while eliminate(graph) or merge_parallel(graph):
        pass
    if summed_labels(graph):
        raise Irreducible


def summed_labels(graph: Graph) -> list[Label]:
    """The summed labels that are left; last those of basis vectors, so that an entry is taken of a whole product, and
    those that a slice has, so that a vector is sliced and not put into a longer one."""
    labels = [la for la in graph.sizes if la not in graph.kept and (la in graph.weights or edges_at(graph, la))]

    def last(label: Label) -> tuple[bool, bool]:
        unit = any(weight.select is not None for weight in graph.weights.get(label, ()))
        return unit, any(
            e.piece.select is not None and oriented(e, label).flipped is False for e in edges_at(graph, label)
        )

    return sorted(labels, key=last)


def edges_at(graph: Graph, label: Label) -> list[Edge]:
    return [edge for edge in graph.edges if label in (edge.u, edge.v)]


def eliminate(graph: Graph) -> bool:
    """Take away one summed label, one between two matrices before one at the end of a product."""
    labels = summed_labels(graph)
    for count, remove in ((2, between), (1, at_the_end), (0, alone)):
        for label in labels:
            edges = edges_at(graph, label)
            if len(edges) == count and remove(graph, label, edges):
                return True
    return False


def between(graph: Graph, label: Label, edges: Sequence[Edge]) -> bool:
    """A label between two matrices: their product, its weight a diagonal matrix between them."""
    first, second = edges
    a = first.v if first.u == label else first.u
    b = second.v if second.u == label else second.u
    closed = a == b and a not in graph.kept
    if closed and (len(edges_at(graph, a)) != 2 or graph.weights.get(a)):
        return False  # parallel edges, to be merged first; else two labels with two edges between them are a trace
    graph.edges = [edge for edge in graph.edges if edge is not first and edge is not second]
    weights = graph.weights.pop(label, [])
    unit = next((weight for weight in weights if weight.select is not None), None)
    if unit is not None:  # A diag(e) B is a column times a row
        rest = [weight for weight in weights if weight is not unit]
        graph.scalars += [entry(rest, position(unit.select))] if rest else []  # type: ignore[arg-type]
        graph.weights.setdefault(a, []).append(times(oriented(first, a), unit))
        graph.weights.setdefault(b, []).append(times(oriented(second, b), unit))
        return True
    middle = [Piece(diagonal(columns_product(weights)))] if weights else []
    joined = oriented(first, a)
    for part in (*middle, oriented(second, label)):
        joined = times(joined, part)
    if a != b:
        graph.edges.append(Edge(a, b, joined))
    elif closed:
        entries = hadamard([first.piece.tree, oriented(second, first.u).tree])
        size = size_tree(product((graph.sizes[a], graph.sizes[label])))
        cubed = not middle and is_high_power(entries)
        graph.scalars.append(total(entries, size) if cubed else trace(graph, joined))
    else:
        graph.weights.setdefault(a, []).append(Piece(t.Call("diag", (joined.tree,))))
    return True


def at_the_end(graph: Graph, label: Label, edges: Sequence[Edge]) -> bool:
    """A label at the end of a product: a matrix times a vector, of ones where it has no weight."""
    (edge,) = edges
    other = edge.v if edge.u == label else edge.u
    graph.edges.remove(edge)
    weights = graph.weights.pop(label, [])
    last = other not in graph.kept and not edges_at(graph, other) and not graph.weights.get(other)
    if not weights and last:
        size = product((graph.sizes[label], graph.sizes[other]))
        graph.scalars.append(total(edge.piece.tree, size_tree(size)))
        return True
    ones = Piece(graph.special.ones(graph.sizes[label]), column=True)
    several = Piece(columns_product(weights), column=True)
    column = weights[0] if len(weights) == 1 else several if weights else ones
    graph.weights.setdefault(other, []).append(times(oriented(edge, other), column))
    return True


def alone(graph: Graph, label: Label, edges: Sequence[Edge]) -> bool:
    """A label of vectors alone: an inner product."""
    graph.scalars.append(inner_product(graph, graph.weights.pop(label), size_tree(graph.sizes[label])))
    return True


def merge_parallel(graph: Graph) -> bool:
    """Two edges between the same labels are their Hadamard product."""
    for place, first in enumerate(graph.edges):
        for second in graph.edges[place + 1 :]:
            if {first.u, first.v} == {second.u, second.v}:
                graph.edges.remove(second)
                first.piece = Piece(hadamard([first.piece.tree, oriented(second, first.u).tree]))
                return True
    return False


def oriented(edge: Edge, row: Label) -> Piece:
    """The matrix of an edge with its rows along `row`."""
    return edge.piece if edge.u == row else transposed(edge.piece)


# --- scalars ------------------------------------------------------------------------------------------------------


def inner_product(graph: Graph, weights: Sequence[Piece], size: t.Tree) -> t.Tree:
    """Σ w₁w₂⋯ of columns of a size."""
    if len(weights) == 1:
        match weights[0].tree:
            case t.Call("diag", (whole,)) as diagonal_of if not is_diagonal(diagonal_of):
                return t.Call("trace", (whole,))
        return total(weights[0].tree, size)
    whole = columns_product(weights)
    if is_high_power(whole):
        return total(whole, size)
    for place, weight in enumerate(weights):
        if weight.select is not None:
            return entry([w for p, w in enumerate(weights) if p != place], position(weight.select))
    found = []
    for place, last in enumerate(weights):  # any of them may stand last
        first = columns_product([w for p, w in enumerate(weights) if p != place])
        tree = times(transposed(Piece(first)), last).tree
        found += [tree, transposed(Piece(tree)).tree]
    return plainest(graph, found)


def is_high_power(tree: t.Tree) -> bool:
    """Whether a product of entries is one of three or more that are equal: xᵀ x is a product, sum(x**3) is none."""
    match tree:
        case t.Power(_, t.Number(int(exponent))):
            return exponent > 2
    return False


def entry(weights: Sequence[Piece], place: t.Tree) -> t.Tree:
    """One entry of a column, or of the matrix that a column was taken of."""
    if len(weights) == 1 and weights[0].column_of is not None:
        matrix, column = weights[0].column_of
        marked = turned(matrix)
        if transposes(marked) < transposes(matrix):
            return t.Subscript(marked, (column, place))
        return t.Subscript(matrix, (place, column))
    return t.Subscript(columns_product(weights), (place,))


def trace(graph: Graph, whole: Piece) -> t.Tree:
    """The trace of a product, which may begin with any of its factors."""
    found = []
    for factors in (chain(whole.tree), chain(transposed(whole).tree)):
        found += [t.product("@", (*factors[turn:], *factors[:turn])) for turn in range(len(factors))]
    return t.Call("trace", (plainest(graph, found),))


def plainest(graph: Graph, trees: Sequence[t.Tree]) -> t.Tree:
    """Of texts of one value the one that ends with a differential, has the fewest transposes, is first by its names."""

    def key(tree: t.Tree) -> tuple[object, ...]:
        names = [node.name for node in t.walk(tree) if isinstance(node, t.Name)]
        last = chain(tree)[-1]
        moved = any(map(is_differential, names)) and not (isinstance(last, t.Name) and is_differential(last.name))
        first = chain(tree)[0]
        marks = transposes(without_transposes(tree, graph.symmetric))
        named = any(isinstance(tree, t.Name | t.Subscript) for tree in (first, turned(first)))
        return moved, marks, isinstance(first, t.Transpose), not named, str(tree)

    return min(trees, key=key)
