"""Contractions pair by pair: in the order of a path, each pair once, inverses applied by solving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

from tensordsl.dims import AnySize, evaluate
from tensordsl.expr import Expr, Number
from tensordsl.facts import is_positive_definite
from tensordsl.functions import routines
from tensordsl.labels import Label
from tensordsl.program.emitter import Emitter
from tensordsl.program.instructions import Register
from tensordsl.program.kernels import Apply, Labels, Product, Total, align, product
from tensordsl.program.paths import Path, cost, path

LARGE = 1 << 12  # entries from which an outer product is worth the reading of its labels
TINY = 64  # entries of matrices so small that a stack of products is made faster entry by entry
# Rows from which Cholesky's half of the work pays for one solution: NumPy's BLAS and SciPy's have threads of their own,
# which wait for work on each other's cores, so that a program that goes from one to the other loses milliseconds.
LARGE_SYSTEM = 1000
# Sizes of the result and of the sum from which a product that is its own transpose is computed by half. That takes four
# calls of BLAS for one, and where other work keeps the cores busy each call may wait tens of milliseconds for its
# threads: as much has to be saved.
LARGE_PRODUCT = 2000

Sizes = Mapping[Label, AnySize]


class Operand(NamedTuple):
    """What is multiplied: an array, or the matrix of which `inverse` is the inverse."""

    register: Register
    labels: Labels
    inverse: Expr | None = None


class Products:
    """The products of one program: what is multiplied once is not multiplied again, whatever its labels are called.

    `explicit` gives the register of an inverse that must be there as an array; `shared` are the inverses that are
    applied several times, by factors that are found once.
    """

    def __init__(self, out: Emitter, explicit: Callable[[Expr], Register], shared: Callable[[Expr], bool]) -> None:
        self._out = out
        self._explicit = explicit
        self._shared = shared
        self._made: dict[object, tuple[Register, tuple[int, ...]]] = {}
        self._factors: dict[str, Register] = {}

    def fold(
        self,
        operands: Sequence[Operand],
        wanted: Sequence[Label],
        sizes: Sizes,
        coefficient: Number,
        symmetric: Callable[[], bool] | None = None,
    ) -> tuple[Register, Labels, Number]:
        """Contract operands to the labels wanted; and what is left of the coefficient, to multiply the result by.

        The coefficient goes into the smallest array on the way that is smaller than the result. `symmetric` says
        whether the result is a matrix that is its own transpose, and is asked where that makes a difference.
        """
        numbers = {label: evaluate(size, self._out.sizes) for label, size in sizes.items()}
        if all(operand.inverse is not None for operand in operands):  # there is nothing to solve with
            operands = [self._array(operand) for operand in operands]
        operands = [
            self._sum_out(operand, [other.labels for q, other in enumerate(operands) if q != p], wanted, sizes)
            for p, operand in enumerate(operands)
        ]
        operands = self._with_known(operands, wanted, sizes)
        steps = _path(operands, wanted, numbers)
        place = None if coefficient == 1 else self._smallest(operands, steps, wanted)
        if place is not None and place < len(operands):
            operands[place] = self._scaled(operands[place], coefficient)
        count = len(operands)
        for step, (p, q) in enumerate(steps):
            first, second = operands[p], operands[q]
            operands = [operand for at, operand in enumerate(operands) if at not in (p, q)]
            keep = kept_labels(first, second, operands, wanted)
            if operands:
                keep = _ordered(first, second, keep, _summed_next(operands, keep, steps[step + 1 :], wanted))
            result = self.pair(first, second, keep, sizes, not operands, None if operands else symmetric)
            if place == count + step:
                result = self._scaled(result, coefficient)
            operands.append(result)
        last = self._array(operands[0])
        return last.register, last.labels, coefficient if place is None else 1

    def _with_known(self, operands: list[Operand], wanted: Sequence[Label], sizes: Sizes) -> list[Operand]:
        """The operands, two of them in one where their product is there already and the rest costs no more then."""
        numbers = {label: evaluate(size, self._out.sizes) for label, size in sizes.items()}
        while len(operands) > 2:
            for p, q in combinations(range(len(operands)), 2):
                rest = [operand for place, operand in enumerate(operands) if place not in (p, q)]
                keep = kept_labels(operands[p], operands[q], rest, wanted)
                found = self._known(operands[p], operands[q], keep)
                if found is None:
                    continue
                if _cost([*rest, found], wanted, numbers) <= _cost(operands, wanted, numbers):
                    operands = [*rest, found]
                    break
            else:
                break
        return operands

    def _known(self, a: Operand, b: Operand, keep: Sequence[Label]) -> Operand | None:
        """The product of two operands, where it has been made."""
        for matrix, right in ((a, b), (b, a)):
            way = _solving(matrix, right, keep)
            if way is not None:
                found = self._made.get(way.key)
                return None if found is None else Operand(found[0], way.labels)
        if a.inverse is not None or b.inverse is not None:
            return None
        keys, names = _keys(a, b, keep, False)
        found = self._made.get(min(keys, key=str))
        if found is None:
            return None
        order = names if keys[0] == min(keys, key=str) else _keys(b, a, keep, False)[1]
        return Operand(found[0], tuple(order[place] for place in found[1]))

    def _array(self, operand: Operand) -> Operand:
        """The operand as an array that is there."""
        return operand if operand.inverse is None else Operand(self._explicit(operand.inverse), operand.labels)

    def _smallest(self, operands: Sequence[Operand], steps: Path, wanted: Sequence[Label]) -> int | None:
        """The smallest of the operands and of the results of steps, counted on; None where the last is no larger."""
        sizes = {la: s for o in operands for la, s in zip(o.labels, o.register.sizes, strict=True)}
        entries = [
            self._out.count(operand.register.sizes)
            if operand.inverse is None and operand.register.uniform is not False
            else None
            for operand in operands
        ]
        current = [(set(operand.labels), place) for place, operand in enumerate(operands)]
        for p, q in steps[:-1]:
            both = current[p][0] | current[q][0]
            current = [each for at, each in enumerate(current) if at not in (p, q)]
            live = set(wanted).union(*[labels for labels, _ in current])
            entries.append(self._out.count(sizes[label] for label in both & live))
            current.append((both & live, len(entries) - 1))
        result = self._out.count(sizes[label] for label in wanted)
        found = [(number, place) for place, number in enumerate(entries) if number is not None and number < result]
        return min(found)[1] if found and steps else None

    def _scaled(self, operand: Operand, coefficient: Number) -> Operand:
        return operand._replace(register=self._out.scaled(operand.register, coefficient))

    def _sum_out(self, operand: Operand, others: Sequence[Labels], wanted: Sequence[Label], sizes: Sizes) -> Operand:
        """Sum at once over the labels that stand in this operand alone."""
        labels = operand.labels
        lonely = [la for la in labels if la not in wanted and not any(la in other for other in others)]
        if not lonely:
            return operand
        register, labels, _ = self._array(operand)
        kept = tuple(label for label in labels if label not in lonely)
        key = ("sum", register.name, tuple(labels.index(label) for label in lonely))
        if key not in self._made:
            flops = self._out.count(register.sizes)
            found = self._out.emit(Total((labels,), kept), [register], [sizes[la] for la in kept], flops=flops)
            self._made[key] = (found, ())
        return Operand(self._made[key][0], kept)

    def gram(
        self, factor: Operand, weights: Sequence[Operand], wanted: Sequence[Label], sizes: Sizes
    ) -> tuple[Register, Labels]:
        """Σ_m w_m F_mi F_mj for weights that are not negative: a matrix times its own transpose, half of which is
        computed (BLAS's syrk, which NumPy calls for such a product)."""
        (row,) = (label for label in factor.labels if label in wanted)
        (summed,) = (label for label in factor.labels if label != row)
        weight, labels, _ = self.fold(weights, [summed], sizes, 1)
        root = self._out.map("np.sqrt({0})", "sqrt", [(weight, labels)], labels, [sizes[summed]], ufunc="np.sqrt")
        scaled = self.pair(factor, Operand(root, labels), factor.labels, sizes, False)
        (column,) = (label for label in wanted if label != row)
        other = tuple(column if label == row else label for label in scaled.labels)
        result = self.pair(scaled, Operand(scaled.register, other), wanted, sizes, True)
        return result.register, result.labels

    def pair(
        self,
        a: Operand,
        b: Operand,
        keep: Sequence[Label],
        sizes: Sizes,
        last: bool,
        symmetric: Callable[[], bool] | None = None,
    ) -> Operand:
        """The product of two operands, summed over the labels that are not kept."""
        if a.inverse is not None or b.inverse is not None:
            solved = self._solve(a, b, keep, sizes) or self._solve(b, a, keep, sizes)
            if solved is not None:
                return solved
            a, b = self._array(a), self._array(b)
        # A last product without a sum is made in the order wanted: reading a transposed one costs more than making it.
        ordered = last and {*a.labels, *b.labels} == set(keep)

        keys, names = _keys(a, b, keep, ordered)
        if str(keys[1]) < str(keys[0]):  # the same two operands, whichever is named first
            a, b = b, a
            keys, names = _keys(a, b, keep, ordered)
        key = keys[0]
        if key not in self._made:
            kernel, swapped = product(a.labels, b.labels, keep)
            pair = [b.register, a.register] if swapped else [a.register, b.register]
            repeated = all(set(kernel.output) - set(labels) for labels in kernel.inputs)
            outer = kernel.entrywise and repeated and self._out.count(sizes[la] for la in kernel.output) >= LARGE
            batch, rows, columns = kernel.free
            tiny = batch and kernel.summed and self._out.count(sizes[la] for la in (*rows, *columns)) <= TINY
            # To bring a large array into order, for one product with a vector, takes longer than to go through it.
            if outer or tiny or kernel.packs_for_a_vector:
                kernel = replace(kernel, by_einsum=True)
            elif symmetric is not None and self._worth_halving(kernel, pair) and symmetric():
                kernel = replace(kernel, by_halves=self._out.call(routines.symmetric_product))
            register = self._out.multiply(kernel, pair, [sizes[la] for la in kernel.output])
            self._made[key] = (register, tuple(names.index(la) for la in kernel.output))
        register, order = self._made[key]
        return Operand(register, tuple(names[place] for place in order))

    def _worth_halving(self, kernel: Product, pair: Sequence[Register]) -> bool:
        """Whether half of a product would take less time, were the result its own transpose."""
        if self._out.dtype is None or not kernel.of_matrices:
            return False
        sizes = dict(zip(kernel.inputs[0], pair[0].sizes, strict=True))
        if min(self._out.count(sizes[la] for la in side) for side in (kernel.free[1], kernel.summed)) < LARGE_PRODUCT:
            return False
        # Of a matrix times its own transpose, BLAS computes half by itself.
        at = [tuple(map(labels.index, kernel.summed)) for labels in kernel.inputs]
        return pair[0] != pair[1] or at[0] != at[1]

    # --- inverses -------------------------------------------------------------------------------------------------

    def _solve(self, a: Operand, b: Operand, keep: Sequence[Label], sizes: Sizes) -> Operand | None:
        """An inverse times a vector or matrix, as the solution of a linear system; None where it is no such product."""
        way = _solving(a, b, keep)
        if way is None or a.inverse is None:
            return None
        if way.key in self._made:
            return Operand(self._made[way.key][0], way.labels)
        new, *rest = way.labels
        turned, matrix, labels = way.turned, a.register, way.labels
        right = align("{1}", b.labels, [way.summed, *rest])
        n, m = evaluate(sizes[new], self._out.sizes), self._out.count(sizes[label] for label in rest)
        # For complex data a symmetric matrix is no Hermitian one, which is what has a Cholesky factor.
        real = self._out.dtype is not None and not self._out.complex_data
        definite = real and is_positive_definite(a.inverse.children[0])
        if self._shared(a.inverse) or (definite and n >= LARGE_SYSTEM):
            matrix, flops = self._factorised(a, definite), 2 * n * n * m
            solve = self._out.call(routines.cholesky_solve if definite else routines.lu_solve)
            template = f"{solve}({{0}}, {right})" if definite or not turned else f"{solve}({{0}}, {right}, True)"
        else:
            flops = 2 * n**3 // 3 + 2 * n * n * m
            template = f"np.linalg.solve({{0}}{'.T' if turned else ''}, {right})"
        opaque = tuple(-1 - place for place in range(matrix.ndim))
        kernel = Apply((opaque, tuple(-3 - p for p in range(len(b.labels)))), labels, template, "solve")
        register = self._out.emit(kernel, [matrix, b.register], [sizes[la] for la in labels], flops=flops)
        self._made[way.key] = (register, ())
        return Operand(register, labels)

    def _factorised(self, a: Operand, definite: bool) -> Register:
        """The triangular factors of a matrix, found once."""
        name = a.register.name
        if name not in self._factors:
            routine = routines.cholesky if definite else routines.lu
            n = self._out.number(a.register.sizes[0])
            kernel = Apply(((-1, -2),), (-3, -4), f"{self._out.call(routine)}({{0}})", routine.__name__)
            flops = n**3 // 3 if definite else 2 * n**3 // 3
            self._factors[name] = self._out.emit(kernel, [a.register], a.register.sizes, flops=flops, own_dtype=True)
        return self._factors[name]


def kept_labels(first: Operand, second: Operand, others: Sequence[Operand], wanted: Sequence[Label]) -> list[Label]:
    """The labels of a product that others or the result need, those of the last in the order wanted."""
    both = dict.fromkeys((*first.labels, *second.labels))
    if not others:
        return [label for label in wanted if label in both]
    elsewhere = {label for operand in others for label in operand.labels}.union(wanted)
    return [label for label in both if label in elsewhere]


def _summed_next(
    others: Sequence[Operand], labels: Sequence[Label], steps: Path, wanted: Sequence[Label]
) -> frozenset[Label]:
    """The labels of a product, which comes after the other operands, that are summed over where it is used."""
    current: list[frozenset[Label] | None] = [*(frozenset(operand.labels) for operand in others), None]
    for p, q in steps:
        pair = [current[p], current[q]]
        current = [each for at, each in enumerate(current) if at not in (p, q)]
        if None in pair:
            later = frozenset(wanted).union(*(each for each in current if each is not None))
            return frozenset(labels) - later
        current.append(frozenset().union(*(each for each in pair if each is not None)))  # more than is kept: no harm
    return frozenset()


def _ordered(a: Operand, b: Operand, keep: Sequence[Label], summed: frozenset[Label]) -> list[Label]:
    """The labels of a product that is no last one, in an order in which it can be made without a copy.

    Those that are summed over next come at an end where that can be, so that it is a matrix there as it lies.
    """
    longer, other = (a, b) if len(a.labels) >= len(b.labels) else (b, a)
    sides = [[la for la in longer.labels if la in keep], [la for la in other.labels if la in keep]]
    for side, rest in (sides, sides[::-1]):
        count = sum(label in summed for label in side)
        if count and not set(side) & set(rest):
            if summed.issuperset(side[-count:]):
                return [*rest, *side]
            if summed.issuperset(side[:count]):
                return [*side, *rest]
    return list(dict.fromkeys((*sides[0], *sides[1])))


def _path(operands: Sequence[Operand], wanted: Sequence[Label], numbers: Mapping[Label, int]) -> Path:
    labels = [frozenset(operand.labels) for operand in operands]
    return path(labels, frozenset(wanted), numbers, [operand.inverse is not None for operand in operands])


def _keys(
    a: Operand, b: Operand, keep: Sequence[Label], ordered: bool
) -> tuple[tuple[tuple[object, ...], tuple[object, ...]], tuple[Label, ...]]:
    """What tells a product from others, whatever its labels are called, with either operand first; and the labels."""

    def described(first: Operand, second: Operand) -> tuple[object, ...]:
        numbers: dict[Label, int] = {}
        for label in (*first.labels, *second.labels):
            numbers.setdefault(label, len(numbers))
        kept = [numbers[la] for la in keep]
        return (
            first.register.name,
            second.register.name,
            *(numbers[la] for la in first.labels),
            "by",
            *(numbers[la] for la in second.labels),
            "to",
            *(kept if ordered else sorted(kept)),
        )

    return (described(a, b), described(b, a)), tuple(dict.fromkeys((*a.labels, *b.labels)))


class _Way(NamedTuple):
    """How an inverse is applied: along which label, to which result, with the matrix or its transpose."""

    key: tuple[object, ...]
    summed: Label
    labels: Labels
    turned: bool


def _solving(a: Operand, b: Operand, keep: Sequence[Label]) -> _Way | None:
    """How the inverse a is applied to a vector or matrix b by solving; None where it cannot be."""
    if a.inverse is None or b.inverse is not None:
        return None
    row, column = a.labels
    if column in b.labels and column not in keep and row not in b.labels:
        summed, new, turned = column, row, False
    elif row in b.labels and row not in keep and column not in b.labels:
        summed, new, turned = row, column, True
    else:
        return None
    rest = tuple(label for label in b.labels if label != summed)
    if len(rest) > 1 or any(label not in keep for label in rest):
        return None
    key = ("solve", a.register.name, turned, b.register.name, b.labels.index(summed))
    return _Way(key, summed, (new, *rest), turned)


def _cost(operands: Sequence[Operand], wanted: Sequence[Label], numbers: Mapping[Label, int]) -> int:
    """What the cheapest order costs."""
    labels = [frozenset(operand.labels) for operand in operands]
    return cost(labels, _path(operands, wanted, numbers), frozenset(wanted), numbers)
