"""Forms that neither overflow nor lose digits, in place of those that do.

Those that read better as well (softmax, logsumexp, sigmoid, softplus) belong to the algebra; log1p and expm1 are chosen
when a program is built.
"""

from __future__ import annotations

from typing import Any

from tensordsl.contraction import contract, number_of, scale, split_coefficient
from tensordsl.expr import Contraction, Elementwise, Expr, Sum
from tensordsl.functions.analytic import exp, expm1, log1p, sigmoid, softplus
from tensordsl.functions.elementwise import power
from tensordsl.functions.multilinear import transpose
from tensordsl.functions.operators import broadcast_to
from tensordsl.functions.reductions import logsumexp
from tensordsl.labels import flat, singles
from tensordsl.rewrites.algebra import based, is_whole, named, terms_of
from tensordsl.rewrites.rewriting import remade, rule


def one_and_rest(node: Expr) -> Expr | None:
    """x where the node is 1 + x."""
    if not isinstance(node, Sum):
        return None
    ones = [term for term in node.terms if number_of(term) == 1]
    if len(ones) != 1 or len(node.terms) != 2:
        return None
    (rest,) = [term for term in node.terms if term is not ones[0]]
    return rest


@rule("stable", "log")
def log_of_one_more(node: Elementwise) -> Expr | None:
    """log(1 + x) → log1p(x).

    Ends, as the sum goes.
    """
    rest = one_and_rest(node.children[0])
    return None if rest is None else log1p(rest)


@rule("algebra", "log", "log1p")
def log_of_one_more_exponential(node: Elementwise) -> Expr | None:
    """log(1 + exp(x)) → softplus(x).

    Ends, as a function goes.
    """
    rest = node.children[0] if named(node, "log1p") else one_and_rest(node.children[0])
    return softplus(rest.children[0]) if rest is not None and named(rest, "exp") else None


@rule("stable", "log", "log1p")
def log_of_sigmoid(node: Elementwise) -> Expr | None:
    """log(sigmoid(x)) → -softplus(-x) and log(1 - sigmoid(x)) → -softplus(x).

    Ends, as a function goes.
    """
    inner = node.children[0]
    if named(node, "log") and named(inner, "sigmoid"):
        return scale(-1, softplus(scale(-1, inner.children[0])))
    rest = inner if named(node, "log1p") else one_and_rest(inner)
    coefficient, body = (1, None) if rest is None else split_coefficient(rest)
    if body is None or coefficient != -1 or not named(body, "sigmoid"):
        return None
    return scale(-1, softplus(body.children[0]))


@rule("algebra", "power")
def one_over_one_and_exponential(node: Elementwise) -> Expr | None:
    """1/(1 + exp(x))**n → sigmoid(-x)**n.

    Ends, as a function goes.
    """
    base, exponent = based(node)
    rest = one_and_rest(base) if is_whole(exponent) and exponent < 0 else None  # type: ignore[operator]
    return power(sigmoid(scale(-1, rest.children[0])), -exponent) if rest is not None and named(rest, "exp") else None


@rule("algebra", Contraction)
def exponential_times_sigmoid(node: Contraction) -> Expr | None:
    """exp(x + y) * sigmoid(-x) → exp(y) * sigmoid(x), and so exp(x)/(1 + exp(x)) → sigmoid(x).

    Ends, as a factor goes, or an exponent has a term less.
    """
    pairs = list(zip(node.factors, node.slots, strict=True))
    exponentials = [place for place, (factor, _) in enumerate(pairs) if named(factor, "exp")]
    if not exponentials:
        return None
    found = []
    for other, (second, slots) in enumerate(pairs):
        base, exponent = based(second)
        if named(base, "sigmoid") and is_whole(exponent) and exponent > 0:  # type: ignore[operator]
            x = scale(-1, base.children[0])
            for place in exponentials:
                argument = pairs[place][0].children[0]
                if pairs[place][1] == slots and terms_of(x) <= terms_of(argument):
                    found.append((len(terms_of(argument)) - len(terms_of(x)), place, other, x))
    if not found:
        return None
    _, place, other, x = min(found, key=lambda match: match[:3])
    factor, slots = pairs[place]
    base, exponent = based(pairs[other][0])
    left = [exp(factor.children[0] - x), sigmoid(x), power(base, exponent - 1)]
    return remade(node, [*(p for n, p in enumerate(pairs) if n not in (place, other)), *((f, slots) for f in left)])


@rule("stable", Sum)
def exponential_less_one(node: Sum) -> Expr | None:
    """exp(x) - 1 → expm1(x), and 1 - sigmoid(x) → sigmoid(-x).

    Ends, as two terms become one.
    """
    if len(node.terms) != 2:
        return None
    for value, other in (node.terms, node.terms[::-1]):
        constant = number_of(value)
        coefficient, body = split_coefficient(other)
        if constant is None or isinstance(constant, complex) or isinstance(coefficient, complex):
            continue
        if named(body, "exp") and constant == -coefficient:
            return scale(coefficient, expm1(body.children[0]))
        if named(body, "sigmoid") and constant == -coefficient:
            return scale(constant, sigmoid(scale(-1, body.children[0])))
    return None


def summed_exponential(node: Expr) -> Expr | None:
    """logsumexp(x) where the node is the sum of exp(x) over some of its axes, the others in their order."""
    if not isinstance(node, Contraction) or len(node.factors) != 1 or node.coefficient != 1:
        return None
    factor, slots = node.factors[0], node.slots[0]
    if not named(factor, "exp") or any(len(group) != 1 for group in slots) or any(len(g) > 1 for g in node.output):
        return None
    labels, output = flat(slots), flat(node.output)
    if len(set(labels)) < len(labels) or not set(output) <= set(labels) or len(set(output)) < len(output):
        return None
    if len(labels) != len(node.sizes) or len(output) == len(labels) or any(size == 0 for size in node.sizes):
        return None
    axes = tuple(axis for axis, label in enumerate(labels) if label not in output)
    value = logsumexp(factor.children[0], axes)
    order = [label for label in labels if label in output]
    value = transpose(value, [order.index(label) for label in output]) if value.ndim > 1 else value
    return value[tuple(slice(None) if group else None for group in node.output)]  # type: ignore[no-any-return]


@rule("algebra", "log")
def log_of_summed_exponential(node: Elementwise) -> Expr | None:
    """log of a sum of exponentials → logsumexp.

    Ends, as the sum goes.
    """
    return summed_exponential(node.children[0])


@rule("algebra", Contraction)
def exponential_over_sum(node: Contraction) -> Expr | None:
    """exp(x) / (the sum of exp(x) over some axes) → exp(x - logsumexp(x)), the softmax; also in exp(x + y).

    Ends, as a factor goes, or its power is smaller.
    """
    pairs: list[Any] = list(zip(node.factors, node.slots, strict=True))
    for other, (below, its_slots) in enumerate(pairs):
        base, exponent = based(below)
        if not isinstance(base, Contraction) or not is_whole(exponent) or exponent >= 0:  # type: ignore[operator]
            continue
        total = summed_exponential(base)
        if total is None:
            continue
        part = terms_of(base.factors[0].children[0])
        for place, (factor, slots) in enumerate(pairs):
            if not named(factor, "exp") or factor.ndim != base.factors[0].ndim:
                continue
            if not part <= terms_of(factor.children[0]) or not _alongside(base, slots, its_slots):
                continue
            labels = singles(range(factor.ndim))
            places = {base.slots[0][axis][0]: axis for axis in range(factor.ndim)}
            spread = contract(
                1,
                [(total, tuple(tuple(places[label] for label in group) for group in base.output))],
                labels,
                dict(enumerate(factor.shape)),
            )
            softmax = exp(factor.children[0] - broadcast_to(spread, factor.shape))
            rest = [pair for p, pair in enumerate(pairs) if p not in (place, other)]
            return remade(node, [*rest, (softmax, slots), (power(base, exponent + 1), its_slots)])
    return None


def _alongside(base: Contraction, slots: Any, its_slots: Any) -> bool:
    """Whether a factor stands on the axes that its sum was taken of."""
    axis_of = {label: axis for axis, (label,) in enumerate(base.slots[0])}
    return all(slots[axis_of[g[0]]] == here for g, here in zip(base.output, its_slots, strict=True) if g)
