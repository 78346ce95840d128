"""Rules for inverses, determinants and what is declared of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from tensordsl.contraction import as_operands, contract, number, scale, zero
from tensordsl.dims import AnySize
from tensordsl.dims import divide as divide_sizes
from tensordsl.expr import Contraction, Expr, Number, Primitive
from tensordsl.facts import has, is_orthogonal
from tensordsl.functions.analytic import exp, log
from tensordsl.functions.choices import abs_
from tensordsl.functions.convert import as_expr
from tensordsl.functions.elementwise import divide, half, power, reciprocal
from tensordsl.functions.linalg import inverse_record, logdet_record
from tensordsl.functions.linalg import logdet as logdet_of
from tensordsl.functions.multilinear import diag, diagonal, kron, trace
from tensordsl.functions.operators import matmul, multiply
from tensordsl.functions.record import functions
from tensordsl.functions.reductions import prod
from tensordsl.functions.spectral import expm_record, multiple_of_identity
from tensordsl.labels import classes, flat
from tensordsl.rewrites.algebra import named
from tensordsl.rewrites.rewriting import rule


class Blocks(NamedTuple):
    """A square matrix as number * scalar * (block ⊗ block ⊗ ...), each block a product of square matrices."""

    number: Number
    scalar: Expr | None
    factors: tuple[tuple[Expr, ...], ...]  # the factors of each block in order; a vector alone is a diagonal block

    @property
    def single(self) -> bool:
        """Whether nothing was found to be taken apart."""
        return self.number == 1 and self.scalar is None and len(self.factors) == 1 and len(self.factors[0]) == 1


def blocks_of(node: Expr) -> Blocks:
    """A matrix taken apart by its labels: components of the contraction are the factors of a Kronecker product."""
    whole = Blocks(1, None, ((node,),))
    if not isinstance(node, Contraction) or node.ndim != 2 or not len(node.output[0]) == len(node.output[1]) > 0:
        return whole
    coefficient, operands, (rows, columns), sizes = as_operands(node)
    root = classes(sizes, (pair for _, slots in operands for pair in pairwise(flat(slots))))
    if len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
        return whole
    factors: list[tuple[Expr, ...]] = []
    used: set[int] = set()
    for row, column in zip(rows, columns, strict=True):
        here = {label for label in sizes if root[label] in (root[row], root[column])}
        if sizes[row] != sizes[column] or here & used:
            return whole
        if row != column and root[row] != root[column]:
            return whole  # a column times a row: not invertible
        used |= here
        own = [(f, s) for f, s in operands if set(flat(s)) & here]
        live = {label: sizes[label] for label in here}
        if row == column:
            factors.append((contract(1, own, ((row,),), live),))
        else:
            block = contract(1, own, ((row,), (column,)), live)
            factors.append(chain_of(block) or (block,))
    left = [label for label in sizes if label not in used]
    loose = [(f, s) for f, s in operands if not set(flat(s)) & used]
    scalar = contract(1, loose, (), {label: sizes[label] for label in left}) if loose or left else None
    return Blocks(coefficient, scalar, tuple(factors))


def chain_of(block: Expr) -> tuple[Expr, ...] | None:
    """The square factors of a product of matrices in order; None where it is no such product of two or more."""
    if not isinstance(block, Contraction):
        return None
    _, operands, (rows, columns), sizes = as_operands(block)
    if any(len(s) != 2 or any(len(group) != 1 for group in s) for _, s in operands) or len(operands) < 2:
        return None
    found: list[Expr] = []
    left, at = list(operands), rows[0]
    while left:
        next_ones = [operand for operand in left if at in flat(operand.slots)]
        if len(next_ones) != 1:
            return None
        (step,) = next_ones
        left.remove(step)
        (first,), (second,) = step.slots
        if first == second or sizes[first] != sizes[second]:
            return None
        found.append(step.node if first == at else turned(step.node))
        at = second if first == at else first
    return tuple(found) if at == columns[0] else None


def turned(node: Expr) -> Expr:
    return contract(1, [(node, ((0,), (1,)))], ((1,), (0,)), dict(enumerate(node.shape)))


def is_turned(node: Expr) -> Expr | None:
    """The matrix that a plain transpose is of."""
    if not isinstance(node, Contraction) or node.coefficient != 1 or len(node.factors) != 1:
        return None
    plain = node.output == ((0,), (1,)) and node.slots[0] == ((1,), (0,))
    return node.factors[0] if plain else None


def inverse(node: Expr) -> Expr:
    return reciprocal_diagonal(node) if node.ndim == 1 else Primitive(inverse_record, (node,))


def reciprocal_diagonal(vector: Expr) -> Expr:
    return diag(reciprocal(vector))


@rule("algebra", "inv")
def inverse_of_inverse(node: Primitive) -> Expr | None:
    """inv(inv(X)) → X, inv(Xᵀ) → inv(X)ᵀ, inv(expm(X)) → expm(-X).

    Ends, as a function goes, or moves to a smaller argument.
    """
    (inner,) = node.children
    if named(inner, "inv"):
        return inner.children[0]
    if named(inner, "expm"):
        return Primitive(expm_record, (-inner.children[0],))
    before = is_turned(inner)
    return None if before is None else turned(Primitive(inverse_record, (before,)))


@rule("declared", "inv")
def inverse_of_declared(node: Primitive) -> Expr | None:
    """inv(Q) → Qᵀ for an orthogonal Q, inv(D) → diag(1/diag(D)) for a diagonal D.

    Ends, as a function goes.
    """
    (inner,) = node.children
    if is_orthogonal(inner):
        return turned(inner)
    return reciprocal_diagonal(diagonal(inner)) if has(inner, "diagonal") else None


@rule("algebra", "inv")
def inverse_of_product(node: Primitive) -> Expr | None:
    """inv(A B) → inv(B) inv(A), inv(A ⊗ B) → inv(A) ⊗ inv(B), inv(c A) → inv(A)/c, inv(diag(x)) → diag(1/x).

    For square factors, which are invertible where their product is. Ends, as the arguments are smaller.
    """
    (inner,) = node.children
    if inner.ndim != 2 or is_turned(inner) is not None:
        return None
    parts = blocks_of(inner)
    if parts.single and parts.factors[0][0] is inner:
        return None
    matrices = []
    for factors in parts.factors:
        value = inverse(factors[-1])
        for factor in reversed(factors[:-1]):
            value = matmul(value, inverse(factor))
        matrices.append(value)
    whole = matrices[0]
    for matrix in matrices[1:]:
        whole = kron(whole, matrix)
    if parts.scalar is not None:
        whole = divide(whole, parts.scalar)
    return divide(whole, number(parts.number)) if parts.number != 1 else whole


@rule("algebra", "det", "logdet")
def determinant_of_product(node: Primitive) -> Expr | None:
    """det(A B) → det(A) det(B), det(A ⊗ B) → det(A)**n det(B)**m, det(c A) → c**n det(A), det(diag(x)) → prod(x).

    For square factors; logdet likewise, with sums. Ends, as the arguments are smaller.
    """
    (inner,) = node.children
    if inner.ndim != 2:
        return None
    before = is_turned(inner)
    if before is not None:
        return Primitive(node.record, (before,))
    parts = blocks_of(inner)
    if parts.single and parts.factors[0][0] is inner:
        return None
    size = inner.shape[0]
    logarithm = node.record.name == "logdet"
    values: list[Expr] = []
    for factors in parts.factors:
        times = divide_sizes(size, factors[0].shape[0])
        if times is None:
            return None
        for factor in factors:
            values.append(_determinant(node, factor, times, logarithm))
    constants = [number(parts.number)] if parts.number != 1 else []
    constants += [parts.scalar] if parts.scalar is not None else []
    for value in constants:
        values.append(multiply(as_expr(size), log(abs_(value))) if logarithm else _power(value, size))
    return _joined(values, logarithm)


def _determinant(node: Primitive, factor: Expr, times: AnySize, logarithm: bool) -> Expr:
    if factor.ndim == 1:
        value = functions["sum"](log(abs_(factor))) if logarithm else prod(factor)
    else:
        value = Primitive(node.record, (factor,))
    return multiply(as_expr(times), value) if logarithm else _power(value, times)


def _power(value: Expr, times: AnySize) -> Expr:
    return value if times == 1 else power(value, as_expr(times))


def _joined(values: Sequence[Expr], logarithm: bool) -> Expr:
    whole = values[0]
    for value in values[1:]:
        whole = whole + value if logarithm else multiply(whole, value)
    return whole


@rule("algebra", "det", "logdet")
def determinant_of_function(node: Primitive) -> Expr | None:
    """det(inv(X)) → 1/det(X), det(expm(X)) → exp(trace(X)); logdet likewise, and of a square root.

    Ends, as a function goes.
    """
    (inner,) = node.children
    logarithm = node.record.name == "logdet"
    if named(inner, "inv"):
        value: Expr = Primitive(node.record, inner.children)
        return scale(-1, value) if logarithm else reciprocal(value)
    if named(inner, "expm") and inner.ndim == 2:
        value = trace(inner.children[0])
        return value if logarithm else exp(value)
    if named(inner, "sqrtm") and logarithm:
        return divide(logdet_of(inner.children[0]), 2)
    return None


@rule("declared", "det", "logdet")
def determinant_of_declared(node: Primitive) -> Expr | None:
    """det(L) → prod(diag(L)) for a triangular L, logdet likewise; logdet(Q) → 0 for an orthogonal Q.

    Ends, as a function goes.
    """
    (inner,) = node.children
    logarithm = node.record.name == "logdet"
    if has(inner, "lower") or has(inner, "upper"):
        entries = diagonal(inner)
        return functions["sum"](log(abs_(entries))) if logarithm else prod(entries)
    if logarithm and is_orthogonal(inner):
        return zero(())
    return None


@rule("algebra", "log")
def log_of_determinant(node: Any) -> Expr | None:
    """log(det(X)) → logdet(X), which neither overflows nor underflows; log(abs(det(X))) likewise.

    Ends, as a function goes.
    """
    (inner,) = node.children
    inner = inner.children[0] if named(inner, "abs") else inner
    return Primitive(logdet_record, inner.children) if named(inner, "det") else None


@rule("algebra", "solve_sylvester")
def sylvester_of_identity(node: Primitive) -> Expr | None:
    """The Y with X Y + Y X = c I → c inv(X)/2, as of the derivative of trace(sqrtm(X)).

    Ends, as a function gives way to a simpler one.
    """
    left, right, value = node.children
    if left is not right or node.ndim != 2:
        return None
    scalar = multiple_of_identity(value)
    return None if scalar is None else multiply(half(scalar), Primitive(inverse_record, (left,)))
