"""Rewrites of whole expressions beyond the canonical form, each named, each saying why it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tensordsl.contraction import (
    Operand,
    add_terms,
    as_operands,
    contract,
    is_repeated,
    is_structured,
    without_axes,
)
from tensordsl.expr import Contraction, Expr, Sum
from tensordsl.labels import Groups, Label, flat, singles


class Placed(NamedTuple):
    """A factor, and for each of its axes the output axes (counted over all groups) that it may stand on."""

    node: Expr
    places: tuple[frozenset[int], ...]


class Factored(NamedTuple):
    """common[0] * common[1] * ... * (sum of rest), each common factor with the output axes that it stands on."""

    common: tuple[tuple[Expr, tuple[int, ...]], ...]
    rest: tuple[Expr, ...]


def common_factors(terms: Sequence[Expr]) -> Factored:
    """The factors that every term of a sum has, standing on the same output axes.

    A label that repeats in the output (a δ) lets a factor stand on any of its axes: A[i,j]*x[j]*δ[i,k] +
    A[i,j]*x[i]*δ[j,k] has the common factor A[i,j]. Terms keep at least one factor. Ends, as each round takes a factor
    from every term.
    """
    parts = [as_operands(term) for term in terms]
    remaining = [list(operands) for _, operands, _, _ in parts]
    positions = [_positions(output) for _, _, output, _ in parts]
    common: list[tuple[Expr, tuple[int, ...]]] = []
    for operand in list(remaining[0]):
        if any(len(operands) < 2 for operands in remaining):
            break
        found = _everywhere(operand, remaining, positions)
        if found is not None:
            places, chosen = found
            common.append((operand.node, places))
            for operands, taken in zip(remaining, chosen, strict=True):
                operands.remove(taken)
    if not common:
        return Factored((), tuple(terms))
    rest = tuple(
        contract(coefficient, operands, output, sizes)
        for (coefficient, _, output, sizes), operands in zip(parts, remaining, strict=True)
    )
    return Factored(tuple(common), rest)


def _positions(output: Groups) -> dict[Label, frozenset[int]]:
    found: dict[Label, set[int]] = {}
    for place, label in enumerate(flat(output)):
        found.setdefault(label, set()).add(place)
    return {label: frozenset(places) for label, places in found.items()}


def _placed(operand: Operand, positions: dict[Label, frozenset[int]]) -> Placed | None:
    if any(len(group) != 1 or group[0] not in positions for group in operand.slots):
        return None
    return Placed(operand.node, tuple(positions[group[0]] for group in operand.slots))


def _everywhere(
    operand: Operand,
    remaining: Sequence[list[Operand]],
    positions: Sequence[dict[Label, frozenset[int]]],
) -> tuple[tuple[int, ...], list[Operand]] | None:
    first = _placed(operand, positions[0])
    if first is None:
        return None
    allowed, chosen = list(first.places), [operand]
    for operands, places in zip(remaining[1:], positions[1:], strict=True):
        for other in operands:
            if other.node is not operand.node:
                continue
            placed = _placed(other, places)
            if placed is None:
                continue
            both = [a & b for a, b in zip(allowed, placed.places, strict=True)]
            if all(both):
                allowed = both
                chosen.append(other)
                break
        else:
            return None
    return tuple(min(options) for options in allowed), chosen


def take_out_common_factors(node: Sum) -> Expr:
    """A*x + A*y → A*(x + y), where nothing in the sum is structure: one pass over a large factor instead of two.

    Ends, as the sum that is left has fewer factors in each term.
    """
    if len(node.terms) > 64 or any(is_structured(term) for term in node.terms):
        return node
    if any(len(group) != 1 for term in node.terms for group in as_operands(term)[2]):
        return node
    common, rest = common_factors(node.terms)
    if not common:
        return node
    inner = add_terms(rest, node.shape)
    labels = singles(range(node.ndim))
    operands = [(factor, singles(places)) for factor, places in common]
    repeated = [axis for axis in range(node.ndim) if is_repeated(inner, axis)]
    if repeated:
        inner = without_axes(inner, repeated)
    kept = singles(axis for axis in range(node.ndim) if axis not in repeated)
    return contract(1, [*operands, (inner, kept)], labels, dict(enumerate(node.shape)))


def sharing(terms: Sequence[Expr]) -> list[list[Expr]]:
    """The terms in groups that have a factor of two axes or more in common, as A*x + A*y and B*x have.

    Ends, as each group takes a term at least.
    """
    left, groups = list(terms), []
    while left:
        best = left[:1]
        for factor in dict.fromkeys(operand.node for operand in as_operands(left[0])[1] if operand.node.ndim > 1):
            members = left[:1]
            for other in left[1:]:
                if any(node is factor for node, _ in common_factors([*members, other]).common):
                    members.append(other)
            best = max(best, members, key=len)
        left = [term for term in left if term not in best]
        groups.append(best)
    return groups


def distributed(node: Expr) -> Expr:
    """A sum whose axes are grouped anew as a sum of terms that are: vec(A + B) → vec(A) + vec(B).

    Ends, as the sum is in no term any more.
    """
    if not isinstance(node, Contraction) or len(node.factors) != 1 or not isinstance(node.factors[0], Sum):
        return node
    terms = node.factors[0].terms
    if all(
        len(group) < 2
        for groups in (*node.slots, node.output, *(as_operands(term)[2] for term in terms))
        for group in groups
    ):
        return node
    sizes = dict(enumerate(node.sizes))
    regrouped = [contract(node.coefficient, [(term, node.slots[0])], node.output, sizes) for term in terms]
    return add_terms(regrouped, node.shape)


def arranged(node: Expr) -> Expr:
    """A contraction with the common factors of its inner sums taken out and joined: B_ki (c B)_kj → B_ki c_k B_kj.

    Ends, as each sum that is opened is replaced by one with fewer factors in each term.
    """
    if isinstance(node, Sum):
        return take_out_common_factors(node)
    if not isinstance(node, Contraction) or not any(isinstance(factor, Sum) for factor in node.factors):
        return node
    opened = tuple(take_out_common_factors(f) if isinstance(f, Sum) else f for f in node.factors)
    if opened == node.factors:
        return node
    return contract(
        node.coefficient, list(zip(opened, node.slots, strict=True)), node.output, dict(enumerate(node.sizes))
    )
