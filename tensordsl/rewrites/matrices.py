"""Rules for inverses, determinants and what is declared of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tensordsl.contraction import Operand, as_operands, contract, number, number_of, scale, zero
from tensordsl.dims import AnySize
from tensordsl.dims import divide as divide_sizes
from tensordsl.expr import Contraction, Expr, Number, Primitive
from tensordsl.facts import has, is_orthogonal
from tensordsl.functions.analytic import exp, log
from tensordsl.functions.choices import abs_
from tensordsl.functions.convert import as_expr
from tensordsl.functions.elementwise import divide, power, reciprocal
from tensordsl.functions.linalg import inverse_record, logdet_record
from tensordsl.functions.linalg import logdet as logdet_of
from tensordsl.functions.multilinear import diag, diagonal, kron, trace
from tensordsl.functions.operators import matmul, multiply
from tensordsl.functions.record import functions
from tensordsl.functions.reductions import prod
from tensordsl.functions.spectral import expm_record
from tensordsl.labels import Groups, flat
from tensordsl.rewrites.algebra import named
from tensordsl.rewrites.rewriting import remade, rule, unified


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
    if not isinstance(node, Contraction) or node.ndim != 2 or len(node.output[0]) != len(node.output[1]):
        return whole
    coefficient, operands, (rows, columns), sizes = as_operands(node)
    component = {label: label for label in sizes}

    def root(label: int) -> int:
        while component[label] != label:
            label = component[label]
        return label

    for _, slots in operands:
        first, *rest = flat(slots) or (None,)
        for label in rest:
            component[root(label)] = root(first)  # type: ignore[arg-type]
    kept = set(rows) | set(columns)
    if len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
        return whole
    factors: list[tuple[Expr, ...]] = []
    used: set[int] = set()
    for row, column in zip(rows, columns, strict=True):
        here = {label for label in sizes if root(label) in (root(row), root(column))}
        if sizes[row] != sizes[column] or here & kept != {row, column} or here & used:
            return whole
        if row != column and root(row) != root(column):
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
    value = None if scalar is None else number_of(scalar)
    if value is not None:
        coefficient, scalar = coefficient * value, None
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
    """log(det(X)) → logdet(X), which neither overflows nor underflows.

    Ends, as a function goes.
    """
    (inner,) = node.children
    return Primitive(logdet_record, inner.children) if named(inner, "det") else None


@rule("algebra", Contraction)
def adjugate_over_determinant(node: Contraction) -> Expr | None:
    """adjugate(X) / det(X) → inv(X), for what is divided by det(X) has an inverse.

    Ends, as a factor goes.
    """
    for place, factor in enumerate(node.factors):
        if not named(factor, "adjugate") or factor.ndim != 2:
            continue
        determinant = reciprocal(functions["det"](factor.children[0]))
        for other, below in enumerate(node.factors):
            if below is determinant:
                operands = [
                    (inverse(factor.children[0]) if p == place else f, s)
                    for p, (f, s) in enumerate(zip(node.factors, node.slots, strict=True))
                    if p != other
                ]
                return remade(node, operands)
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
    for other, second in enumerate(operands):
        # inv(X)[a,b] meets X[b,c] by its second axis and X[c,a] by its first.
        if other != place and second.node is matrix and second.slots[1 - own] == (shared,):
            return (other,), second.slots[own][0]
    return _factors_of_product(operands, place, shared, matrix, 1 - own)


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


@rule("declared", Contraction)
def entries_of_diagonal(node: Contraction) -> Expr | None:
    """D[i,j] → D[i,i] δ[i,j] for a diagonal D: what is zero by declaration is never multiplied.

    Ends, as the two labels become one.
    """
    for place, (factor, slots) in enumerate(zip(node.factors, node.slots, strict=True)):
        if has(factor, "diagonal") and all(len(group) == 1 for group in slots) and slots[0] != slots[1]:
            (kept,), (gone,) = slots
            operands = [
                (f, ((kept,), (kept,)) if p == place else s)
                for p, (f, s) in enumerate(zip(node.factors, node.slots, strict=True))
            ]
            return unified(node, operands, kept, gone)
    return None
