"""Rules for factors of a product that cancel: a matrix beside its inverse, a factor of it beside its transpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tensordsl.contraction import Operand, contract
from tensordsl.expr import Contraction, Expr, Primitive, Select
from tensordsl.facts import has, is_orthogonal, is_symmetric
from tensordsl.functions.multilinear import vec
from tensordsl.functions.record import functions
from tensordsl.labels import Group, Groups, flat
from tensordsl.rewrites.algebra import based, is_whole, named, raised
from tensordsl.rewrites.matrices import inverse
from tensordsl.rewrites.rewriting import remade, rule, unified


@rule("algebra", Contraction)
def adjugate_over_determinant(node: Contraction) -> Expr | None:
    """adjugate(X) / det(X) → inv(X), for what is divided by det(X) has an inverse.

    Ends, as a factor goes, or its power is smaller.
    """
    pairs = list(zip(node.factors, node.slots, strict=True))
    for place, (factor, slots) in enumerate(pairs):
        if not named(factor, "adjugate") or factor.ndim != 2:
            continue
        determinant = functions["det"](factor.children[0])
        powers = [(p, based(other)[1]) for p, other in enumerate(node.factors) if based(other)[0] is determinant]
        if len(powers) != 1:  # none, or several, which are made one first
            continue
        ((other, exponent),) = powers
        if is_whole(exponent) and exponent < 0:  # type: ignore[operator]
            rest = [pair for p, pair in enumerate(pairs) if p not in (place, other)]
            left = [(raised(determinant, exponent + 1), ())] if exponent != -1 else []
            return remade(node, [*rest, (inverse(factor.children[0]), slots), *left])
    return None


@rule("algebra", Contraction)
def matrix_times_inverse(node: Contraction) -> Expr | None:
    """inv(X) @ X → I and X @ inv(X) → I, also where X is a product whose factors stand there.

    Ends, as two factors go.
    """
    return _without_identity(node, lambda factor: named(factor, "inv") and factor.ndim == 2)


@rule("declared", Contraction)
def orthogonal_times_transpose(node: Contraction) -> Expr | None:
    """Q @ Qᵀ → I and Qᵀ @ Q → I for an orthogonal Q.

    Ends, as two factors go.
    """
    return _without_identity(node, is_orthogonal)


def _without_identity(node: Contraction, wanted: Callable[[Expr], bool]) -> Expr | None:
    """The contraction without a factor that is wanted and what stands beside it, if their product is the identity."""
    if not any(map(wanted, node.factors)):
        return None
    counts: dict[int, int] = {}
    for groups in (node.output, *node.slots):
        for label in flat(groups):
            counts[label] = counts.get(label, 0) + 1
    kept = set(flat(node.output))
    operands = [Operand(f, s) for f, s in zip(node.factors, node.slots, strict=True)]
    for place, first in enumerate(operands):
        is_inverse = isinstance(first.node, Primitive)
        if not wanted(first.node) or any(len(group) != 1 for group in first.slots):
            continue
        for own in (0, 1):
            (shared,), (free,) = first.slots[own], first.slots[1 - own]
            if shared in kept or counts[shared] != 2 or shared == free:
                continue
            found = _rest_of_product(operands, place, own, is_inverse)
            if found is not None:
                gone, end = found
                if kept & {label for p in gone for label in flat(operands[p].slots)} - {free, end}:
                    continue  # a label inside X that the output has
                rest = [operand for p, operand in enumerate(operands) if p not in gone and p != place]
                dropped = {label for p in (*gone, place) for label in flat(operands[p].slots)} - {free, end}
                return _closed(node, rest, free, end, dropped)
    return None


def _closed(node: Contraction, rest: Sequence[Operand], free: int, end: int, dropped: set[int]) -> Expr:
    """The contraction without a product that is the identity: its ends are one label, what was inside is gone."""
    names = {label: free if label == end else label for label in range(len(node.sizes))}

    def renamed(groups: Groups) -> Groups:
        return tuple(tuple(names[label] for label in group) for group in groups)

    sizes = {
        label: size for label, size in enumerate(node.sizes) if label not in dropped and (label != end or end == free)
    }
    return contract(node.coefficient, [(f, renamed(s)) for f, s in rest], renamed(node.output), sizes)


def _rest_of_product(
    operands: Sequence[Operand], place: int, own: int, is_inverse: bool
) -> tuple[tuple[int, ...], int] | None:
    """The operands that make X beside inv(X), or Q beside Qᵀ, and the label at their other end."""
    first = operands[place]
    shared = first.slots[own][0]
    if not is_inverse:
        for other, second in enumerate(operands):
            if other != place and second.node is first.node and second.slots[own] == (shared,):
                return (other,), second.slots[1 - own][0]
        return None
    matrix = first.node.children[0]
    # inv(X)[a,b] meets X[b,c] by its second axis and X[c,a] by its first; a symmetric X by either.
    for axis in (1 - own, own) if is_symmetric(matrix) else (1 - own,):
        for other, second in enumerate(operands):
            if other != place and second.node is matrix and second.slots[axis] == (shared,):
                return (other,), second.slots[1 - axis][0]
        found = _factors_of_product(operands, place, shared, matrix, axis)
        if found is not None:
            return found
    return None


def _factors_of_product(
    operands: Sequence[Operand], place: int, shared: int, matrix: Expr, axis: int
) -> tuple[tuple[int, ...], int] | None:
    """The operands that are the factors of X = A B, found by following its labels from the axis that is shared."""
    if not isinstance(matrix, Contraction) or matrix.coefficient != 1 or any(len(g) != 1 for g in matrix.output):
        return None
    inside = list(zip(matrix.factors, matrix.slots, strict=True))
    if len(inside) > 6 or len(inside) < 2:
        return None
    counts: dict[int, int] = {}
    for _, slots in operands:
        for label in flat(slots):
            counts[label] = counts.get(label, 0) + 1

    def match(
        left: list[Any], known: dict[int, int], used: tuple[int, ...]
    ) -> tuple[dict[int, int], tuple[int, ...]] | None:
        if not left:
            return known, used
        node, slots = next((item for item in left if set(flat(item[1])) & known.keys()), left[0])
        rest = [item for item in left if item != (node, slots)] + [(node, slots)] * (left.count((node, slots)) - 1)
        for p, operand in enumerate(operands):
            if p == place or p in used or operand.node is not node:
                continue
            trial = dict(known)
            pairs = [(a, b) for g, h in zip(slots, operand.slots, strict=True) for a, b in zip(g, h, strict=False)]
            if len(flat(slots)) != len(flat(operand.slots)):
                continue
            if all(trial.setdefault(a, b) == b for a, b in pairs):
                found = match(rest, trial, (*used, p))
                if found is not None:
                    return found
        return None

    found = match(inside, {matrix.output[axis][0]: shared}, ())
    if found is None:
        return None
    labels, used = found
    end = labels.get(matrix.output[1 - axis][0])
    if end is None or len(set(labels.values())) < len(labels):
        return None
    own = {label for p in used for label in flat(operands[p].slots)}
    summed = own - {shared, end}
    for label in summed:  # what is summed inside X must be summed there alone
        inside_count = sum(flat(operands[p].slots).count(label) for p in used)
        if counts[label] != inside_count or label in _outputs(labels, matrix):
            return None
    return used, end


def _outputs(labels: dict[int, int], matrix: Contraction) -> set[int]:
    return {labels[group[0]] for group in matrix.output}


@rule("algebra", Contraction)
def factor_times_itself(node: Contraction) -> Expr | None:
    """cholesky(P) @ cholesky(P)ᵀ → P and sqrtm(X) @ sqrtm(X) → X.

    Ends, as two factors become one that is smaller.
    """
    for name, axis in (("cholesky", 1), ("sqrtm", 0)):
        places = [p for p, factor in enumerate(node.factors) if named(factor, name) and factor.ndim == 2]
        for first in places:
            for second in places:
                if first == second or node.factors[first] is not node.factors[second]:
                    continue
                (left, inner), other = node.slots[first], node.slots[second]
                if inner == other[axis] and _only_between(node, inner, (first, second)):
                    return _put_together(
                        node, (first, second), node.factors[first].children[0], (left, other[1 - axis])
                    )
    return None


@rule("algebra", Contraction)
def matrix_around_pseudoinverse(node: Contraction) -> Expr | None:
    """X @ pinv(X) @ X → X and pinv(X) @ X @ pinv(X) → pinv(X).

    Ends, as three factors become one.
    """
    for factor in dict.fromkeys(node.factors):
        if not named(factor, "pinv") or factor.ndim != 2:
            continue
        matrix = factor.children[0]
        for middle, outer in ((factor, matrix), (matrix, factor)):
            for inside in (p for p, f in enumerate(node.factors) if f is middle):
                rows, columns = node.slots[inside]
                before = [p for p, f in enumerate(node.factors) if f is outer and node.slots[p][1] == rows]
                after = [p for p, f in enumerate(node.factors) if f is outer and node.slots[p][0] == columns]
                for first, last in ((a, b) for a in before for b in after if a != b):
                    between = _only_between(node, rows, (first, inside)), _only_between(node, columns, (inside, last))
                    if all(between):
                        ends = (node.slots[first][0], node.slots[last][1])
                        return _put_together(node, (first, inside, last), outer, ends)
    return None


def _only_between(node: Contraction, group: Group, places: tuple[int, ...]) -> bool:
    """Whether a label is summed, and stands once in each of two factors and nowhere else."""
    if len(group) != 1 or group[0] in flat(node.output):
        return False
    return [p for p, slots in enumerate(node.slots) for label in flat(slots) if label == group[0]] == sorted(places)


def _put_together(node: Contraction, gone: tuple[int, ...], value: Expr, slots: Groups) -> Expr:
    """The contraction with one factor in the place of several."""
    pairs = list(zip(node.factors, node.slots, strict=True))
    rest = [pair for place, pair in enumerate(pairs) if place not in gone]
    dropped = {label for place in gone for label in flat(node.slots[place])} - set(flat(slots))
    dropped -= {label for _, own in rest for label in flat(own)} | set(flat(node.output))
    sizes = {label: size for label, size in enumerate(node.sizes) if label not in dropped}
    return contract(node.coefficient, [*rest, (value, slots)], node.output, sizes)


@rule("declared", Contraction)
def entries_of_diagonal(node: Contraction) -> Expr | None:
    """D[i,j] → D[i,i] δ[i,j] for a diagonal D: what is zero by declaration is never multiplied.

    Ends, as the two labels become one.
    """
    output = set(flat(node.output))
    for place, (factor, slots) in enumerate(zip(node.factors, node.slots, strict=True)):
        if has(factor, "diagonal") and all(len(group) == 1 for group in slots) and slots[0] != slots[1]:
            (kept,), (gone,) = slots
            if len(node.factors) == 1 and kept in output and gone in output:  # a multiple of D, of its transpose
                continue
            operands = [
                (f, ((kept,), (kept,)) if p == place else s)
                for p, (f, s) in enumerate(zip(node.factors, node.slots, strict=True))
            ]
            return unified(node, operands, kept, gone)
    return None


@rule("declared", Contraction)
def duplication_of_elimination(node: Contraction) -> Expr | None:
    """duplication(n) @ vech(S) → vec(S) for a symmetric S.

    Ends, as three selections go.
    """
    titles = {factor.title: place for place, factor in enumerate(node.factors) if isinstance(factor, Select)}
    if not {"duplication", "vech_rows", "vech_columns"} <= titles.keys():
        return None
    doubled, rows, columns = (titles[title] for title in ("duplication", "vech_rows", "vech_columns"))
    chosen = (doubled, rows, columns)
    entries, place = node.slots[doubled]
    if node.slots[rows][0] != place or node.slots[columns][0] != place:
        return None
    between = (*place, *node.slots[rows][1], *node.slots[columns][1])
    for other, (factor, slots) in enumerate(zip(node.factors, node.slots, strict=True)):
        if sorted(map(len, slots)) == [1, 1] and is_symmetric(factor) and set(flat(slots)) == set(between[1:]):
            alone = all(
                label not in flat(s) for p, s in enumerate(node.slots) if p not in (*chosen, other) for label in between
            )
            if alone and not set(between) & set(flat(node.output)):
                return _put_together(node, (*chosen, other), vec(factor), (entries,))
    return None
