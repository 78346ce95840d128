"""What is left of a contraction after reduction: a Kronecker product, with diagonal factors on its sides.

Components that touch one row label and one column label at the most are its factors, a commutation matrix stands beside
them where they are out of order. An edge between two row labels is diag(vec(M)) on the left, between two column labels
on the right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, groupby, permutations

from tensordsl.dims import product
from tensordsl.labels import Group, Label
from tensordsl.notation import tree as t
from tensordsl.printing.pieces import Piece, chain, columns_product, diagonal, hadamard, transposed
from tensordsl.printing.reduction import Edge, Graph, Irreducible, edges_at, oriented

Block = tuple[Group, Group, t.Tree]  # the labels of its rows, of its columns, and what is written for it


def kronecker(graph: Graph, rows: Group, columns: Group, ndim: int) -> t.Tree | None:
    """What is left after reduction: a Kronecker product, with diagonal factors on its sides."""
    for side, other in ((rows, columns), (columns, rows)):
        if is_stacked_diagonal(graph, side, other):
            weights = weight(graph, side[0])
            square = diagonal(weights[0]) if weights else graph.special.identity(graph.sizes[side[0]])
            stack = t.Call("vec", (square,))
            if side is rows:
                rest = chain(kronecker(graph, (), columns, 2)) if columns else []
                return t.product("@", (stack, *rest))
            rest = chain(kronecker(graph, rows, (), 2)) if rows else []
            return t.product("@", (*rest, t.Transpose(stack)))
    columnwise = khatri_rao(graph, rows, columns)
    if columnwise is not None:
        return columnwise
    rowwise = khatri_rao(graph, columns, rows)
    if rowwise is not None:
        return transposed(Piece(rowwise)).tree
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
        alone = not shared and not touched(graph, edge)
        if (both_rows or both_columns) and alone and _adjacent(side, edge):
            free.append(edge)  # a stacked matrix is a factor of its own
        elif both_rows and len(rows) == 2:
            left.append(diagonal(stacked(edge, rows)))
        elif both_columns and len(columns) == 2:
            right.append(diagonal(stacked(edge, columns)))
        elif (both_rows or both_columns) and not alone:
            raise Irreducible
        else:
            free.append(edge)
    blocks = components(graph, free, rows, columns)
    if [r for rs, _, _ in blocks for r in rs] != list(rows):
        if left or right:
            raise Irreducible
        return interleaved(graph, blocks, rows, columns)
    order = [c for _, cs, _ in blocks for c in cs]
    commuted = None
    if order != list(columns):
        row_order = sorted(blocks, key=lambda b: [columns.index(c) for c in b[1]] or [-1])
        if [r for rs, _, _ in row_order for r in rs] == list(rows):
            blocks = row_order
            if [c for _, cs, _ in blocks for c in cs] != list(columns):
                mirrored = [(cs, rs, transposed(Piece(tree)).tree) for rs, cs, tree in blocks]
                if left or right:
                    raise Irreducible
                return t.Transpose(interleaved(graph, mirrored, columns, rows))
        elif len(order) == 2 and len(columns) == 2:
            # rows of K: the order of the blocks; columns of K: the order of the output
            commuted = graph.special.commutation(graph.sizes[order[0]], graph.sizes[order[1]])
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
            whole = None if left or right or commuted is not None else graph.special.identity(size)
        if ndim == 1 and all(not rs for rs, _, _ in blocks):
            raise Irreducible
    factors = [*left, *(tree for tree in (whole, commuted) if tree is not None), *right]
    if not factors:
        return None
    return t.product("@", tuple(part for f in factors for part in chain(f)))


def interleaved(graph: Graph, blocks: Sequence[Block], rows: Group, columns: Group) -> t.Tree:
    """A Kronecker product whose rows are in order once two neighbours are exchanged: (I ⊗ K ⊗ I) @ (A ⊗ vec(B)).

    Magnus and Neudecker write the derivative of a Kronecker product so.
    """
    found: list[tuple[t.Tree, tuple[t.Tree, ...]]] = []
    for chosen in permutations(blocks):
        if [c for _, cs, _ in chosen for c in cs] != list(columns):
            continue
        order = tuple(r for rs, _, _ in chosen for r in rs)
        for a, b, c in combinations(range(len(order) + 1), 3):
            if (*order[:a], *order[b:c], *order[a:b], *order[c:]) == rows:
                before, first, second, after = (
                    product(graph.sizes[label] for label in part)
                    for part in (order[:a], order[a:b], order[b:c], order[c:])
                )
                ends = [[graph.special.identity(size)] if size != 1 else [] for size in (before, after)]
                exchange = (*ends[0], graph.special.commutation(second, first), *ends[1])
                trees = tuple(joined_identities(graph, chosen))
                found.append((t.product("⊗", exchange), trees))
    if not found:
        raise Irreducible
    exchanged, trees = min(found, key=lambda pair: len(pair[1]))
    return t.product("@", (exchanged, t.product("⊗", trees)))


def joined_identities(graph: Graph, blocks: Sequence[Block]) -> Iterator[t.Tree]:
    """The blocks as trees, neighbouring identity matrices as one."""
    for plain, group in groupby(blocks, key=lambda block: bool(block[0]) and is_identity(graph, block)):
        if plain:
            yield graph.special.identity(product(graph.sizes[label] for rows, _, _ in group for label in rows))
        else:
            yield from (tree for _, _, tree in group)


def is_identity(graph: Graph, block: Block) -> bool:
    rows, columns, _ = block
    return rows == columns and len(rows) == 1 and not graph.weights.get(rows[0])


def is_stacked_diagonal(graph: Graph, side: Group, other: Group) -> bool:
    """Whether a group is one label twice, which stands nowhere else: vec of a diagonal matrix."""
    return (
        len(side) == 2
        and side[0] == side[1]
        and side[0] not in other
        and not any(side[0] in (edge.u, edge.v) for edge in graph.edges)
    )


def khatri_rao(graph: Graph, rows: Group, columns: Group) -> t.Tree | None:
    """One matrix for each row label, all with the same column: the columnwise Kronecker product. A row label that is
    the column's own is an identity matrix; the weight of the column is a diagonal matrix on the right."""
    if len(rows) < 2 or len(columns) != 1:
        return None
    (column,) = columns
    others = [row for row in rows if row != column]
    by_row = {edge.u if edge.v == column else edge.v: edge for edge in edges_at(graph, column)}
    if len(graph.edges) != len(others) or by_row.keys() != set(others) or any(map(graph.weights.get, others)):
        return None
    tree: t.Tree | None = None
    for row in rows:
        one = graph.special.identity(graph.sizes[row]) if row == column else oriented(by_row[row], row).tree
        tree = one if tree is None else t.Call("khatri_rao", (tree, one))
    return t.product("@", (*chain(tree), *map(diagonal, weight(graph, column))))


def touched(graph: Graph, edge: Edge) -> bool:
    return any(other is not edge and {other.u, other.v} & {edge.u, edge.v} for other in graph.edges)


def components(
    graph: Graph,
    edges: Sequence[Edge],
    rows: Group,
    columns: Group,
) -> list[Block]:
    """The Kronecker factors in the order of their rows: row labels, column labels, tree."""
    found: list[Block] = []
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
        by_row, by_column = weight(graph, row), weight(graph, column)
        if by_row and by_column and len(chain(piece.tree)) == 1:
            outer = t.product("@", (*chain(by_row[0]), *chain(transposed(Piece(by_column[0])).tree)))
            found.append(((row,), (column,), hadamard([piece.tree, outer])))
            continue
        parts = [*map(diagonal, by_row), *chain(piece.tree), *map(diagonal, by_column)]
        found.append(((row,), (column,), t.product("@", tuple(parts))))
    for label in dict.fromkeys((*rows, *columns)):
        if label in used:
            continue
        weights = weight(graph, label)
        if label in rows and label in columns:
            tree = diagonal(weights[0]) if weights else graph.special.identity(graph.sizes[label])
            found.append(((label,), (label,), tree))
        elif label in rows:
            found.append(((label,), (), weights[0] if weights else graph.special.ones(graph.sizes[label])))
        else:
            tree = weights[0] if weights else graph.special.ones(graph.sizes[label])
            found.append(((), (label,), transposed(Piece(tree)).tree))
    found.sort(key=lambda block: rows.index(block[0][0]) if block[0] else len(rows))
    if len(found) == 2 and len(rows) == 1 and len(columns) == 1 and found[0][0] and not found[0][1]:
        # a column times a row is written as their product
        return [(rows, columns, t.product("@", (*chain(found[0][2]), *chain(found[1][2]))))]
    return found


def weight(graph: Graph, label: Label) -> list[t.Tree]:
    """The weight of a label as one column, if it has any."""
    pieces = graph.weights.get(label, [])
    return [columns_product(pieces)] if pieces else []


def stacked(edge: Edge, group: Group) -> t.Tree:
    return t.Call("vec", (oriented(edge, group[1]).tree,))


def _adjacent(rows: Group, edge: Edge) -> bool:
    return abs(rows.index(edge.u) - rows.index(edge.v)) == 1
