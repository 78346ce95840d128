"""Rules for products, powers and exponentials, and for what is known of signs."""

from __future__ import annotations

from fractions import Fraction
from math import isfinite

from tensordsl.contraction import (
    Operand,
    add_terms,
    contract,
    is_structured,
    number,
    number_of,
    scale,
    split_coefficient,
)
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Contraction, Elementwise, Expr, Number, Primitive, Sum
from tensordsl.facts import is_positive
from tensordsl.functions.analytic import exp, log, sqrt
from tensordsl.functions.elementwise import power, reciprocal, whole_number
from tensordsl.labels import Groups, flat, singles
from tensordsl.rewrites.rewriting import remade, rule

HALF = Fraction(1, 2)


def named(node: Expr, name: str) -> bool:
    return isinstance(node, Elementwise | Primitive) and node.record.name == name


def terms_of(node: Expr) -> set[Expr]:
    """The terms of a sum; of another node, the node."""
    return set(node.terms) if isinstance(node, Sum) else {node}


def based(node: Expr) -> tuple[Expr, Number]:
    """A base and an exponent that make the node: sqrt(x) is x to the power 1/2."""
    if named(node, "power"):
        exponent = number_of(node.children[1])
        if exponent is not None and not isinstance(exponent, complex) and isfinite(exponent):
            inner = node.children[0]
            return (inner.children[0], exact(exponent) * HALF) if named(inner, "sqrt") else (inner, exact(exponent))
    if named(node, "sqrt"):
        return node.children[0], HALF
    return node, 1


def exact(value: Number) -> Number:
    """A float that is a short binary fraction as a fraction: 0.5 as 1/2."""
    short = isinstance(value, float) and (value * 64).is_integer()
    value = Fraction(value) if short else value  # type: ignore[arg-type]
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def raised(base: Expr, exponent: Number) -> Expr:
    """A power as a person writes it: roots as roots."""
    exponent = exact(exponent)
    if exponent == HALF:
        return sqrt(base)
    return reciprocal(sqrt(base)) if exponent == -HALF else power(base, exponent)


def is_whole(value: Number) -> bool:
    return whole_number(value) is not None


@rule("algebra", Contraction)
def powers_of_one_base(node: Contraction) -> Expr | None:
    """x**a * x**b → x**(a + b) along the same axes, where one exponent is not a positive whole number.

    Ends, as two factors become one, or none.
    """
    pairs = [_entries(factor, slots) for factor, slots in zip(node.factors, node.slots, strict=True)]
    parts = [based(factor) for factor, _ in pairs]
    if len(pairs) < 2 or all(is_whole(exponent) and exponent > 0 for _, exponent in parts):  # type: ignore[operator]
        return None
    groups: dict[tuple[Expr, Groups], list[int]] = {}
    for place, ((base, _), (_, slots)) in enumerate(zip(parts, pairs, strict=True)):
        groups.setdefault((base, slots), []).append(place)
    joined = [
        places
        for places in groups.values()
        if len(places) > 1 and any(not is_whole(parts[p][1]) or parts[p][1] < 0 for p in places)  # type: ignore[operator]
    ]
    if not joined:
        return None
    gone = {place for places in joined for place in places}
    operands = [pair for place, pair in enumerate(pairs) if place not in gone]
    for places in joined:
        base, slots = parts[places[0]][0], pairs[places[0]][1]
        exponent = sum(parts[p][1] for p in places)
        if exponent != 0:
            operands.append((raised(base, exponent), slots))
    return remade(node, operands)


@rule("algebra", Contraction)
def size_over_size(node: Contraction) -> Expr | None:
    """n * (1/n) → 1 for a size n, as of a sum of means.

    Ends, as a factor and a label go.
    """
    bound = {label for slots in node.slots for label in flat(slots)} | set(flat(node.output))
    for label, size in enumerate(node.sizes):
        if label in bound or isinstance(size, int):
            continue
        whole = contract(1, [], (), {0: size})
        for place, factor in enumerate(node.factors):
            base, exponent = based(factor)
            if base is whole and is_whole(exponent) and exponent < 0:  # type: ignore[operator]
                rest: list[tuple[Expr, Groups]] = [
                    (f, s) for p, (f, s) in enumerate(zip(node.factors, node.slots, strict=True)) if p != place
                ]
                if exponent != -1:
                    rest.append((power(whole, exponent + 1), ()))
                sizes = {la: extent for la, extent in enumerate(node.sizes) if la != label}
                return contract(node.coefficient, rest, node.output, sizes)
    return None


@rule("algebra", "power", "sqrt")
def power_of_product(node: Elementwise) -> Expr | None:
    """(c x y)**a → c**a x**a y**a for a whole exponent, or where the factors are positive and nothing is summed.

    What is summed together stays one factor; a root is taken of a number where it is exact. Ends, as the power goes to
    factors that are smaller.
    """
    base, exponent = node.children[0], HALF if named(node, "sqrt") else number_of(node.children[1])
    if exponent is None or isinstance(exponent, complex) or not isinstance(base, Contraction) or not base.factors:
        return None
    if exponent < 0 and is_structured(base):  # 1/0 where a structural zero stands
        return None
    parts = _parts(base)
    summed = set(flat(base.output)) != set(range(len(base.sizes)))
    if not is_whole(exponent) and (summed or not all(is_positive(part) for part, _ in parts)):
        return None
    scaled = _power_of_number(base.coefficient, exponent)
    if scaled is None or (len(parts) == 1 and scaled == 1 and parts[0][0] is base):
        return None
    sizes = {label: base.sizes[label] for label in flat(base.output)}
    return contract(scaled, [(raised(part, exponent), slots) for part, slots in parts], base.output, sizes)


def _parts(base: Contraction) -> list[tuple[Expr, Groups]]:
    """The parts that multiply to a contraction: its factors, those that are summed together as one part."""
    kept = set(flat(base.output))
    pairs = list(zip(base.factors, base.slots, strict=True))
    summed = [(f, s) for f, s in pairs if not set(flat(s)) <= kept]
    parts = [_entries(f, s) for f, s in pairs if set(flat(s)) <= kept]
    bound = {label for _, slots in pairs for label in flat(slots)}
    parts += [(contract(1, [], (), {0: n}), ()) for la, n in enumerate(base.sizes) if la not in bound | kept]
    if summed:
        within = {label for _, slots in summed for label in flat(slots)}
        labels = singles(sorted(within & kept))
        parts.append((contract(1, summed, labels, {label: base.sizes[label] for label in within}), labels))
    return parts


def _power_of_number(value: Number, exponent: Number) -> Number | None:
    """A number to a power, where that is exact, or a whole power."""
    if isinstance(value, complex) or value == 1:
        return None if isinstance(value, complex) else 1
    try:
        if is_whole(exponent):
            return number_of(power(number(value), exponent))
        if not isinstance(value, int | Fraction) or value < 0:
            return None
        root, short = exact(float(value) ** float(exponent)), exact(exponent)  # type: ignore[arg-type]
    except (UnsupportedError, OverflowError):  # too large, or 1/0
        return None
    if not isinstance(root, int | Fraction) or not isinstance(short, Fraction):
        return None
    return root if Fraction(root) ** short.denominator == Fraction(value) ** short.numerator else None


def _entries(factor: Expr, slots: Groups) -> tuple[Expr, Groups]:
    """A factor taken only where its axes meet, as the diagonal of a matrix is."""
    labels = singles(dict.fromkeys(flat(slots)))
    if len(labels) == len(slots) or any(len(group) != 1 for group in slots):
        return factor, slots
    sizes = {label: size for group, size in zip(slots, factor.shape, strict=True) for label in group}
    return contract(1, [(factor, slots)], labels, sizes), labels


@rule("algebra", "power")
def exact_exponent(node: Elementwise) -> Expr | None:
    """x**0.5 → sqrt(x), x**0.75 → x**(3/4): exponents that are binary fractions, as exact ones.

    Ends, as no exponent is a float after it.
    """
    exponent = number_of(node.children[1])
    if not isinstance(exponent, float) or isinstance(exact(exponent), float):
        return None
    return raised(node.children[0], exact(exponent))


@rule("algebra", "power", "sqrt")
def power_of_power(node: Elementwise) -> Expr | None:
    """(x**a)**b → x**(a b), where x is positive, or both are whole, or a is not, as of a root: x has no sign then.

    Ends, as a function goes.
    """
    inner, b = node.children[0], HALF if named(node, "sqrt") else number_of(node.children[1])
    base, a = based(inner)
    if (
        base is inner
        or (named(inner, "sqrt") and b == -1)
        or b is None
        or isinstance(b, complex)
        or isinstance(a, complex)
    ):
        return None
    if is_whole(a) and not is_whole(b) and not is_positive(base):
        return None
    return raised(base, a * exact(b))


@rule("algebra", "power", "sqrt")
def power_of_exponential(node: Elementwise) -> Expr | None:
    """exp(x)**a → exp(a x).

    Ends, as a function goes.
    """
    base, exponent = based(node)
    if base is node or not named(base, "exp"):
        return None
    return exp(scale(exponent, base.children[0]))


@rule("algebra", Contraction)
def product_of_exponentials(node: Contraction) -> Expr | None:
    """exp(x) * exp(y) → exp(x + y) along the same axes; two that are equal stay a square, but for exp(x/2).

    Ends, as two factors become one.
    """
    seen: dict[Groups, int] = {}
    for place, (factor, slots) in enumerate(zip(node.factors, node.slots, strict=True)):
        if not named(factor, "exp"):
            continue
        if slots not in seen:
            seen[slots] = place
            continue
        first = node.factors[seen[slots]]
        if first is factor and all(is_whole(split_coefficient(t)[0]) for t in terms_of(factor.children[0])):
            continue
        both = exp(first.children[0] + factor.children[0])
        rest = [
            (f, s)
            for p, (f, s) in enumerate(zip(node.factors, node.slots, strict=True))
            if p not in (place, seen[slots])
        ]
        return remade(node, [*rest, (both, slots)])
    return None


@rule("algebra", "log")
def log_of_exponential(node: Elementwise) -> Expr | None:
    """log(exp(x)) → x; log(c x y) → log(c) + log(x) + log(y) and log(x**a) → a log(x) for positive factors.

    Ends, as the arguments are smaller.
    """
    inner = node.children[0]
    if isinstance(inner, Contraction) and inner.factors and set(flat(inner.output)) == set(range(len(inner.sizes))):
        if not is_positive(inner) or (len(inner.factors) == 1 and inner.coefficient == 1):
            return None
        sizes = dict(enumerate(inner.sizes))
        terms: list[Expr] = []
        if inner.coefficient != 1:
            terms.append(contract(1, [(log(number(inner.coefficient)), ())], inner.output, sizes))
        for factor, slots in zip(inner.factors, inner.slots, strict=True):
            terms.append(contract(1, [(log(factor), slots)], inner.output, sizes))
        return add_terms(terms, inner.shape)
    if named(inner, "exp"):
        return inner.children[0]
    base, exponent = based(inner)
    if base is not inner and is_positive(base):
        return scale(exponent, log(base))
    return None


@rule("algebra", "exp")
def exponential_of_log(node: Elementwise) -> Expr | None:
    """exp(log(x)) → x and exp(a log(x)) → x**a.

    Ends, as a function goes.
    """
    inner = node.children[0]
    if named(inner, "log"):
        return inner.children[0]
    if not isinstance(inner, Contraction) or len(inner.factors) != 1 or not named(inner.factors[0], "log"):
        return None
    plain = inner.output == inner.slots[0] and len(inner.sizes) == inner.ndim
    return power(inner.factors[0].children[0], inner.coefficient) if plain else None


@rule("algebra", "abs", "sign", "relu")
def of_positive(node: Elementwise) -> Expr | None:
    """abs(x) → x, relu(x) → x, sign(x) → 1 for a positive x.

    Ends, as a function goes.
    """
    if not is_positive(node.children[0]):
        return None
    if node.record.name != "sign":
        return node.children[0]
    return None if _may_be_empty(node.children[0]) else number(1, node.shape)


def _may_be_empty(node: Expr) -> bool:
    """Whether something is summed: over no entry at all the sum of what is positive is zero."""
    summed = isinstance(node, Contraction) and set(flat(node.output)) != set(range(len(node.sizes)))
    return summed or (isinstance(node, Contraction | Sum | Elementwise) and any(map(_may_be_empty, node.children)))


@rule("algebra", Contraction)
def square_of_norm(node: Contraction) -> Expr | None:
    """norm(x) * norm(x) → the sum of squares of x.

    Ends, as the norms go.
    """
    for factor in dict.fromkeys(node.factors):
        if not named(factor, "norm") or node.factors.count(factor) < 2:
            continue
        x = factor.children[0]
        rest = list(zip(node.factors, node.slots, strict=True))
        rest.remove((factor, ()))
        rest.remove((factor, ()))
        labels = singles(range(x.ndim))
        square = contract(1, [(x, labels), (x, labels)], (), dict(enumerate(x.shape)))
        return remade(node, [*rest, (square, ())])
    return None


@rule("algebra", Contraction)
def truth_squared(node: Contraction) -> Expr | None:
    """c * c → c for truth values.

    Ends, as a factor goes.
    """
    seen: set[Operand] = set()
    kept = []
    for operand in map(Operand, node.factors, node.slots):
        twice = operand in seen and isinstance(operand.node, Elementwise) and operand.node.record.truth
        seen.add(operand)
        if not twice:
            kept.append(operand)
    return remade(node, kept) if len(kept) < len(node.factors) else None
