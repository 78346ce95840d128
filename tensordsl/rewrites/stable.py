"""The stabilisation phase: forms that neither overflow nor lose digits, in place of those that do."""

from __future__ import annotations

from typing import Any

from tensordsl.contraction import contract, number_of, scale, split_coefficient
from tensordsl.expr import Contraction, Elementwise, Expr, Sum
from tensordsl.functions.analytic import exp, expm1, log1p, sigmoid, softplus
from tensordsl.functions.multilinear import transpose
from tensordsl.functions.operators import broadcast_to
from tensordsl.functions.reductions import logsumexp
from tensordsl.labels import flat, singles
from tensordsl.rewrites.algebra import based, named
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


@rule("stable", "log1p")
def log_of_one_more_exponential(node: Elementwise) -> Expr | None:
    """log1p(exp(x)) → softplus(x), and log1p(-sigmoid(x)) → -softplus(x).

    Ends, as a function goes.
    """
    coefficient, inner = split_coefficient(node.children[0])
    if coefficient == 1 and named(inner, "exp"):
        return softplus(inner.children[0])
    if coefficient == -1 and named(inner, "sigmoid"):
        return scale(-1, softplus(inner.children[0]))
    return None


@rule("stable", "log")
def log_of_sigmoid(node: Elementwise) -> Expr | None:
    """log(sigmoid(x)) → -softplus(-x).

    Ends, as a function goes.
    """
    inner = node.children[0]
    return scale(-1, softplus(scale(-1, inner.children[0]))) if named(inner, "sigmoid") else None


@rule("stable", "power")
def one_over_one_and_exponential(node: Elementwise) -> Expr | None:
    """1/(1 + exp(x)) → sigmoid(-x).

    Ends, as a function goes.
    """
    base, exponent = based(node)
    rest = one_and_rest(base) if exponent == -1 else None
    return sigmoid(scale(-1, rest.children[0])) if rest is not None and named(rest, "exp") else None


@rule("stable", Contraction)
def exponential_times_sigmoid(node: Contraction) -> Expr | None:
    """exp(x) * sigmoid(-x) → sigmoid(x), and so exp(x)/(1 + exp(x)).

    Ends, as a factor goes.
    """
    pairs = list(zip(node.factors, node.slots, strict=True))
    for place, (factor, slots) in enumerate(pairs):
        if not named(factor, "exp"):
            continue
        partner = sigmoid(scale(-1, factor.children[0]))
        for other, (second, its_slots) in enumerate(pairs):
            if second is partner and slots == its_slots:
                rest = [pair for p, pair in enumerate(pairs) if p not in (place, other)]
                return remade(node, [*rest, (sigmoid(factor.children[0]), slots)])
    return None


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


@rule("stable", "log")
def log_of_summed_exponential(node: Elementwise) -> Expr | None:
    """log of a sum of exponentials → logsumexp.

    Ends, as the sum goes.
    """
    return summed_exponential(node.children[0])


@rule("stable", Contraction)
def exponential_over_sum(node: Contraction) -> Expr | None:
    """exp(x) / (the sum of exp(x) over some axes) → exp(x - logsumexp(x)), the softmax.

    Ends, as a factor goes.
    """
    pairs: list[Any] = list(zip(node.factors, node.slots, strict=True))
    for other, (below, its_slots) in enumerate(pairs):
        base, exponent = based(below)
        if exponent != -1 or not isinstance(base, Contraction):
            continue
        total = summed_exponential(base)
        if total is None:
            continue
        numerator = base.factors[0]
        for place, (factor, slots) in enumerate(pairs):
            if factor is not numerator or not _alongside(base, slots, its_slots):
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
            return remade(node, [*rest, (softmax, slots)])
    return None


def _alongside(base: Contraction, slots: Any, its_slots: Any) -> bool:
    """Whether a factor stands on the axes that its sum was taken of."""
    axis_of = {label: axis for axis, (label,) in enumerate(base.slots[0])}
    return all(slots[axis_of[g[0]]] == here for g, here in zip(base.output, its_slots, strict=True) if g)
