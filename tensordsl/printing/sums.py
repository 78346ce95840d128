"""Sums of matrix texts with what their terms have in common taken out, as a person would write them."""

from __future__ import annotations

from collections.abc import Sequence

from tensordsl.notation import tree as t
from tensordsl.printing.names import signed_tree
from tensordsl.printing.pieces import IDENTITY, chain, natural, transposes, turned


def factored_out(parts: Sequence[tuple[int, t.Tree]], scalar: bool = False) -> t.Tree:
    """A sum of signed terms, factors that all products have on the left and on the right taken out, scalars inside;
    where not all have them, those that do together. Of a scalar the right end goes first: (...)ᵀ @ dx."""
    ordered = natural(sorted(parts, key=lambda part: -part[0]))
    if len(ordered) == 1:
        return signed_tree(*ordered[0])
    if ordered[0][0] < 0:  # all are subtracted
        return negative(factored_out([(1, tree) for _, tree in ordered], scalar))
    chains = [chain(unscaled(tree)) for _, tree in ordered]
    scale, *others = {rescaled(tree, IDENTITY) for _, tree in ordered}
    if scale != IDENTITY and not others and (not has_trace(scale) or any(common_ends(chains))):
        return rescaled(ordered[0][1], factored_out([(sign, unscaled(tree)) for sign, tree in ordered]))
    if scalar and any(has_trace(tree) for _, tree in ordered):
        chains = [[tree] for _, tree in ordered]
    left, right = common_ends(chains, scalar)
    if scalar and not right:
        left = 0
    if not left and not right:
        together = grouped(ordered)
        return t.Sum(tuple(natural(together))) if len(together) > 1 else signed_tree(*together[0])
    first = chains[0]
    middle = [
        (sign, rescaled(tree, t.product("@", c[left : len(c) - right])))
        for (sign, tree), c in zip(ordered, chains, strict=True)
    ]
    inner = factored_out(middle)
    marked = turned(turned(inner))  # one mark on the whole in place of one on each term
    inner = marked if transposes(marked) < transposes(inner) else inner
    less = isinstance(inner, t.Negative) or (isinstance(inner, t.Sum) and inner.terms[0][0] < 0)
    inner = negative(inner) if less else inner
    whole = t.product("@", (*first[:left], *chain(inner), *first[len(first) - right :]))
    return negative(whole) if less else whole


def negative(tree: t.Tree) -> t.Tree:
    if isinstance(tree, t.Sum):
        return t.Sum(tuple((-sign, term) for sign, term in tree.terms))
    return tree.operand if isinstance(tree, t.Negative) else t.Negative(tree)


def common_ends(chains: Sequence[Sequence[t.Tree]], right_first: bool = False) -> tuple[int, int]:
    """How many factors all products have in common on the left and on the right; one of each is left."""
    most = min(map(len, chains)) - 1
    if right_first:
        right, left = common_ends([c[::-1] for c in chains])
        return left, right
    left = next((n for n in range(most) if len({c[n] for c in chains}) > 1), most)
    right = next((n for n in range(most - left) if len({c[-1 - n] for c in chains}) > 1), most - left)
    return left, right


def grouped(parts: Sequence[tuple[int, t.Tree]]) -> list[tuple[int, t.Tree]]:
    """Signed terms, those with one sign and scale that differ in one factor alone written as a product: (A + Aᵀ) x."""
    left, found = list(parts), []
    while left:
        first = left[0]
        groups = [[part for part in left if alike(part, first, side)] for side in (-1, 0, None)]
        group = max(([first], *filter(differ_in_one, groups)), key=len)
        left = [part for part in left if part not in group]
        sign = first[0]
        found.append((sign, factored_out([(1, tree) for _, tree in group])) if len(group) > 1 else first)
    return found


def alike(part: tuple[int, t.Tree], other: tuple[int, t.Tree], side: int | None) -> bool:
    """Whether two terms have one sign, one scale, and one last or first factor; without a side, a scale at all."""
    scales = [rescaled(tree, IDENTITY) for _, tree in (part, other)]
    if part[0] != other[0] or scales[0] != scales[1]:
        return False
    if side is None:
        return scales[0] != IDENTITY and not has_trace(scales[0])
    chains = [chain(unscaled(tree)) for _, tree in (part, other)]
    return min(map(len, chains)) > 1 and chains[0][side] == chains[1][side]


def differ_in_one(group: Sequence[tuple[int, t.Tree]]) -> bool:
    """Whether products differ in a single factor."""
    chains = [chain(unscaled(tree)) for _, tree in group]
    return bool(chains) and {len(c) - sum(common_ends(chains)) for c in chains} == {1}


def unscaled(tree: t.Tree) -> t.Tree:
    """The matrix of a product with scalars, or over them, or of a trace."""
    match tree:
        case t.Product("*", (*_, matrix)) | t.Product("/", (matrix, _)) | t.Call("trace", (matrix,)):
            return unscaled(matrix)
        case t.Negative(matrix):
            return unscaled(matrix)
    return tree


def rescaled(tree: t.Tree, matrix: t.Tree) -> t.Tree:
    """The same with another matrix."""
    match tree:
        case t.Call("trace", (old,)):
            return t.Call("trace", (rescaled(old, matrix),))
        case t.Negative(old):
            return t.Negative(rescaled(old, matrix))
        case t.Product("*", (*scalars, old)):
            return t.Product("*", (*scalars, rescaled(old, matrix)))
        case t.Product("/", (old, below)):
            return t.Product("/", (rescaled(old, matrix), below))
    return matrix


def has_trace(tree: t.Tree) -> bool:
    """Whether a trace stands in a tree: two of them are one only where their matrices have one size."""
    return any(isinstance(part, t.Call) and part.function == "trace" for part in t.walk(tree))
