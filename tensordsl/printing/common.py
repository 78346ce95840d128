"""What the terms of a sum have in common, where it is more than a factor that stands on the same axes of all."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from tensordsl.contraction import (
    Operand,
    add_terms,
    as_operands,
    contract,
    number_of,
    reciprocal,
    scale,
    split_coefficient,
)
from tensordsl.contraction import common_number as shared_number
from tensordsl.dims import AnySize
from tensordsl.expr import Contraction, Elementwise, Expr, Number, Select, Sum
from tensordsl.functions.analytic import sqrt
from tensordsl.functions.elementwise import power
from tensordsl.labels import Groups, Label, flat, singles
from tensordsl.printing.names import in_order, is_differential
from tensordsl.rewrites.factors import sharing

Rational = int | Fraction
HALF = Fraction(1, 2)

# --- numbers and scalars ------------------------------------------------------------------------------------------


def common_number(terms: Sequence[Expr]) -> tuple[Number, Sequence[Expr]]:
    """A number that every term has."""
    common = shared_number([split_coefficient(term)[0] for term in terms])
    if common in (1, -1):
        return 1, terms
    return common, [scale(reciprocal(common), term) for term in terms]


class Common(NamedTuple):
    """Scalars, each with its power, and the terms that they multiply."""

    scalars: tuple[Expr, ...]
    rest: tuple[Expr, ...]


def common_scalars(terms: Sequence[Expr]) -> Common:
    """The scalars that all terms have, each to the power nearest to zero: A/s - B/s**2 is (A - B/s)/s."""
    parts = [as_operands(term) for term in terms]
    powers = [scalar_powers(operands) for _, operands, _, _ in parts]
    common: dict[Expr, Rational] = {}
    for base in powers[0]:
        found = [own.get(base, 0) for own in powers]
        if min(found) > 0 or max(found) < 0:
            common[base] = min(found) if min(found) > 0 else max(found)
    if not common or len(terms) == 1:
        return Common((), tuple(terms))
    rest = tuple(
        contract(
            coefficient,
            [operand for operand in operands if base_and_power(operand.node)[0] not in common or operand.node.ndim]
            + [Operand(raised(base, own[base] - least), ()) for base, least in common.items()],
            output,
            sizes,
        )
        for (coefficient, operands, output, sizes), own in zip(parts, powers, strict=True)
    )
    return Common(tuple(raised(base, exponent) for base, exponent in common.items()), rest)


def scalar_powers(operands: Sequence[Operand]) -> dict[Expr, Rational]:
    """The scalars among the factors of a product, and the power of each."""
    found: dict[Expr, Rational] = {}
    for node, _ in operands:
        if node.ndim == 0:
            base, exponent = base_and_power(node)
            found[base] = found.get(base, 0) + exponent
    return found


def base_and_power(node: Expr) -> tuple[Expr, Rational]:
    """What a scalar is a power of: 1/sqrt(s) is s to the power of -1/2."""
    if isinstance(node, Contraction):
        parts = scalar_parts(node)
        return (parts[0], len(parts)) if len(set(parts)) == 1 else (node, 1)
    if not isinstance(node, Elementwise) or node.record.name not in ("power", "sqrt"):
        return node, 1
    exponent = HALF if node.record.name == "sqrt" else number_of(node.children[1])
    base, inner = base_and_power(node.children[0])
    if not isinstance(exponent, int | Fraction):
        return node, 1
    if inner in (1, HALF) or isinstance(exponent, int):  # a root is not negative, what is squared may be
        return base, inner * exponent
    return node, 1


def scalar_parts(node: Contraction) -> list[Expr]:
    """The scalars whose product a contraction is: x_i x_i x_j x_j is that of two; the node alone, with a number."""
    if node.coefficient != 1 or not node.factors:
        return [node]
    _, operands, _, sizes = as_operands(node)
    groups: list[tuple[set[Label], list[Operand]]] = []
    for operand in operands:
        labels, members = set(flat(operand.slots)), [operand]
        for group in [group for group in groups if group[0] & labels]:
            groups.remove(group)
            labels, members = labels | group[0], group[1] + members
        groups.append((labels, members))
    if len(sizes) > sum(len(labels) for labels, _ in groups):  # a size as a factor
        return [node]
    return [contract(1, members, (), {label: sizes[label] for label in labels}) for labels, members in groups]


def raised(base: Expr, exponent: Rational) -> Expr:
    if abs(exponent) == HALF:
        base, exponent = sqrt(base), exponent / HALF
    return base if exponent == 1 else power(base, whole(exponent))


def whole(value: Rational) -> Rational:
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def merged(terms: Sequence[Expr]) -> Sequence[Expr]:
    """Terms of which some, without what they had in common with the others, are sums themselves, as one sum."""
    if not any(isinstance(term, Sum) for term in terms):
        return terms
    whole = add_terms(terms, terms[0].shape)
    return in_order(whole.terms) if isinstance(whole, Sum) else [whole]


def unstacked(terms: Sequence[Expr]) -> Expr | None:
    """A sum of vectors along one group of two labels as a sum of matrices: vec(A) + vec(B) is vec(A + B)."""
    parts = [as_operands(term) for term in terms]
    if any(len(output) != 1 or len(set(output[0])) != 2 for _, _, output, _ in parts):
        return None
    shapes = {tuple(sizes[label] for label in reversed(output[0])) for _, _, output, sizes in parts}
    if len(shapes) > 1:
        return None
    opened = [contract(c, operands, singles(reversed(output[0])), sizes) for c, operands, output, sizes in parts]
    return add_terms(opened, shapes.pop())


def added_up(node: Expr) -> Expr:
    """The total of a sum whose terms all move as the sum of their totals: each ends with dx, which then comes out."""
    match node:
        case Contraction(factors=(Sum(terms=terms),), ndim=0):
            moving = [{f for f, _ in as_operands(term)[1] if is_differential(f.title)} for term in terms]
            if set.intersection(*moving):
                sizes = dict(enumerate(node.sizes))
                return add_terms([contract(node.coefficient, [(term, node.slots[0])], (), sizes) for term in terms], ())
    return node


# --- factors that are summed over ---------------------------------------------------------------------------------


def grouped(terms: Sequence[Expr]) -> list[list[Expr]]:
    """Terms with those together that have a factor in common, on the axes of the sum or summed over."""
    groups: list[list[Expr]] = []
    for group in sharing(terms):
        near = next((own for own in groups if len(group) == 1 and summed_over_one([*own, *group])), None)
        groups.append(group) if near is None else near.extend(group)
    return groups


def summed_over_one(terms: Sequence[Expr]) -> tuple[list[Expr], list[AnySize]] | None:
    """Terms that are two factors each, one of them in all: with the labels summed over it as axes, and their sizes."""
    parts = [as_operands(term) for term in terms]
    if len(parts) < 2 or any(len(operands) != 2 for _, operands, _, _ in parts):
        return None
    if any(isinstance(node, Select) for _, operands, _, _ in parts for node, _ in operands):
        return None  # a slice is read as one
    for shared, slots in parts[0][1]:
        summed = [axis for axis, group in enumerate(slots) if len(group) == 1 and group not in parts[0][2]]
        found = [_opened(part, shared, summed) for part in parts] if summed else [None]
        if None not in found:
            return [term for term in found if term is not None], [shared.shape[axis] for axis in summed]
    return None


def _opened(
    part: tuple[Number, list[Operand], Groups, dict[Label, AnySize]], shared: Expr, summed: Sequence[int]
) -> Expr | None:
    coefficient, operands, output, sizes = part
    slots = [own for node, own in operands if node is shared]
    kept = set(flat(output))
    if len(slots) != 1 or any(len(group) != 1 for group in (*slots[0], *output)):
        return None
    if [axis for axis, (label,) in enumerate(slots[0]) if label not in kept] != list(summed):
        return None
    return contract(coefficient, operands, (*output, *(slots[0][axis] for axis in summed)), sizes)
