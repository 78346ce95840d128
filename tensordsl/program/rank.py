"""Sums of outer products as products of matrices: Σ_t a_t ⊗ b_t = [a_1 a_2 ...]ᵀ [b_1 b_2 ...].

A product of low rank goes through its result once, where outer products that are added one by one go through it two or
three times each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tensordsl.contraction import Operand, as_operands, contract, is_structured
from tensordsl.dims import AnySize
from tensordsl.expr import Elementwise, Expr, Sum
from tensordsl.labels import Label, flat, singles
from tensordsl.program.emitter import Emitter, Value
from tensordsl.program.instructions import Register, Term
from tensordsl.program.kernels import Labels, Stack, product

LARGE = 1 << 13  # entries of the result from which the product saves more than the stacking of its factors takes
SHORT = 8  # entries of a factor that makes no matrix
MATRIX = 1 << 10  # entries from which a matrix is worth a call of its own

Axes = tuple[int, ...]


class Outer(NamedTuple):
    """A term that is the product of two factors without a label in common, each with the axes that it has."""

    factors: tuple[Expr, Expr]
    axes: tuple[Axes, Axes]  # the first has axis 0


def of_low_rank(node: Sum, out: Emitter, dense: Callable[[Expr], Value]) -> tuple[list[Term], list[Expr]]:
    """The outer products in a sum, those over the same axes as one term; and the terms that are left."""
    if out.dtype is None or out.count(node.shape) < LARGE:
        return [], list(node.terms)
    several: dict[tuple[Axes, Axes], list[Outer]] = {}
    rest: dict[Expr, None] = dict.fromkeys(node.terms)
    found = {term: outer_product(term) for term in node.terms}
    for outer in found.values():
        if outer is not None and _makes_matrices(outer.axes, node, out):
            several.setdefault(outer.axes, []).append(outer)
    terms = []
    for axes, outers in several.items():
        if len(outers) > 1:
            terms.append(_product([outer.factors for outer in outers], axes, node, out, dense))
            rest = {term: None for term in rest if found[term] not in outers}
    return terms, list(rest)


def outer_product(term: Expr) -> Outer | None:
    """A term as an outer product, as x_i A_jm y_m is; None where it is none."""
    coefficient, operands, output, sizes = as_operands(term)
    groups = [group for slots in (output, *(o.slots for o in operands)) for group in slots]
    truths = any(isinstance(operand.node, Elementwise) and operand.node.record.truth for operand in operands)
    if is_structured(term) or truths or any(len(group) != 1 for group in groups):
        return None
    kept = flat(output)
    sides: dict[Axes, list[Operand]] = {}
    for inside in _apart(operands):
        labels = {label for operand in inside for label in flat(operand.slots)}
        sides.setdefault(tuple(axis for axis, label in enumerate(kept) if label in labels), []).extend(inside)
    numbers = sides.pop((), [])  # they belong to any factor
    if len(sides) != 2 or sorted(axis for axes in sides for axis in axes) != list(range(len(kept))):
        return None
    rows, columns = sorted(sides)
    factors = []
    for axes, scale, inside in ((rows, coefficient, [*sides[rows], *numbers]), (columns, 1, sides[columns])):
        own = {label: sizes[label] for operand in inside for label in flat(operand.slots)}
        factors.append(contract(scale, inside, singles(kept[axis] for axis in axes), own))
    return Outer((factors[0], factors[1]), (rows, columns))


def _apart(operands: Sequence[Operand]) -> list[list[Operand]]:
    """The operands in groups that share no label."""
    parts: list[tuple[list[Operand], set[Label]]] = []
    for operand in operands:
        inside, labels = [operand], set(flat(operand.slots))
        for part in [part for part in parts if part[1] & labels]:
            parts.remove(part)
            inside, labels = [*part[0], *inside], part[1] | labels
        parts.append((inside, labels))
    return [inside for inside, _ in parts]


def _batch(axes: tuple[Axes, Axes]) -> int:
    """How many leading axes to go through one by one, for matrices that lie in memory as the result is to lie.

    Behind them come the axes of one factor, and then those of the other.
    """
    side = [axis in axes[0] for axis in range(len(axes[0]) + len(axes[1]))]
    changes = [axis for axis in range(1, len(side)) if side[axis] != side[axis - 1]]
    return changes[-2] if len(changes) > 1 else 0


def _makes_matrices(axes: tuple[Axes, Axes], node: Sum, out: Emitter) -> bool:
    batch = _batch(axes)
    sides = [out.count(node.shape[axis] for axis in own if axis >= batch) for own in axes]
    return min(sides) >= SHORT and sides[0] * sides[1] >= MATRIX


def _product(
    factors: Sequence[tuple[Expr, Expr]],
    axes: tuple[Axes, Axes],
    node: Sum,
    out: Emitter,
    dense: Callable[[Expr], Value],
) -> Term:
    """The sum of some outer products as one term."""
    everything = tuple(range(node.ndim))
    batch, term = everything[: _batch(axes)], node.ndim  # the label of the terms
    sizes: Mapping[Label, AnySize] = {**dict(enumerate(node.shape)), term: len(factors)}
    operands: list[tuple[Register, Labels]] = []
    for side in (0, 1) if len(batch) in axes[0] else (1, 0):  # the axes behind the batch are rows, then columns
        own = axes[side]
        values = [dense(pair[side]) for pair in factors]
        shape = [sizes[label] for label in (term, *own)]
        kernel = Stack(tuple(tuple(own[a] for a in value.axes) for value in values), (term, *own), out.shape(shape))
        stacked = out.emit(kernel, [value.register for value in values], shape)
        order = (*batch, term, *(axis for axis in own if axis not in batch))
        operands.append((out.spread(stacked, (term, *own), order, [sizes[label] for label in order]), order))
    rows_by_columns, _ = product(operands[0][1], operands[1][1], everything)
    output = rows_by_columns.output
    made = out.multiply(rows_by_columns, [register for register, _ in operands], [sizes[label] for label in output])
    return Term(made, output, 1, singles(everything), dict(enumerate(node.shape)))
