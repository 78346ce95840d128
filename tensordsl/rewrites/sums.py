"""Rules for sums: what cancels in them, inside a product or along an axis, and terms that are one."""

from __future__ import annotations

from tensordsl.contraction import (
    Operand,
    add_terms,
    as_operands,
    contract,
    is_zero,
)
from tensordsl.expr import Contraction, Expr, Sum
from tensordsl.facts import oriented
from tensordsl.labels import Groups, flat, singles
from tensordsl.rewrites.algebra import based, named, size_over_size
from tensordsl.rewrites.rewriting import remade, rule

SHORT = 64  # terms up to which a rule looks at all pairs


@rule("algebra", Contraction)
def sum_that_cancels(node: Contraction) -> Expr | None:
    """The sum over an axis, or the trace, of a sum of terms that then cancel: Σ_i (x_i - Σ_j x_j / n), tr(A B - B A).

    Ends, as a factor becomes zero, or one term.
    """
    counts: dict[int, int] = {}
    for slots in node.slots:
        for label in flat(slots):
            counts[label] = counts.get(label, 0) + 1
    kept = set(flat(node.output))
    for place, (factor, slots) in enumerate(zip(node.factors, node.slots, strict=True)):
        if not isinstance(factor, Sum) or len(factor.terms) > SHORT or any(len(group) > 1 for group in slots):
            continue
        labels = flat(slots)
        alone = {label for label in labels if label not in kept and counts[label] == labels.count(label)}
        if not alone:
            continue
        left = singles(dict.fromkeys(label for label in labels if label not in alone))
        sizes = {label: node.sizes[label] for label in labels}
        summed = [_summed(contract(1, [(term, slots)], left, sizes)) for term in factor.terms]
        total = add_terms(summed, tuple(sizes[label] for (label,) in left))
        if is_zero(total) or (not isinstance(total, Sum) and len(factor.terms) > 1):
            others = [o for p, o in enumerate(zip(node.factors, node.slots, strict=True)) if p != place]
            live = {label: size for label, size in enumerate(node.sizes) if label not in alone}
            return contract(node.coefficient, [*others, (total, left)], node.output, live)
    return None


def _summed(node: Expr) -> Expr:
    """A term that was summed, with what then cancels in it."""
    for settle in (size_over_size, sum_that_cancels):
        found = settle(node) if isinstance(node, Contraction) else None
        node = node if found is None else found
    return node


@rule("algebra", Contraction)
def factors_that_cancel_in_a_sum(node: Contraction) -> Expr | None:
    """s (1 - s) ((1 - t)/(1 - s) - t/s) → (1 - t) s - t (1 - s): multiplied out where each term then loses a factor.

    Ends, as each term then has a reciprocal less.
    """
    if len(node.factors) < 2 or any(len(group) > 1 for groups in (*node.slots, node.output) for group in groups):
        return None
    whole = list(zip(node.factors, node.slots, strict=True))
    for place, (factor, slots) in enumerate(whole):
        if not isinstance(factor, Sum) or len(factor.terms) > SHORT:
            continue
        here = set(flat(slots))
        inside = [p for p, (f, s) in enumerate(whole) if p != place and set(flat(s)) <= here]
        above = {(base, whole[p][1]) for p in inside for base, e in [based(whole[p][0])] if e > 0}  # type: ignore[operator]
        if len(here) == len(slots) and all(above & _below(term, slots) for term in factor.terms):
            sizes = dict(zip(flat(slots), factor.shape, strict=True))
            beside = [whole[p] for p in inside]
            terms = [contract(1, [*beside, (term, slots)], slots, sizes) for term in factor.terms]
            outside = [pair for p, pair in enumerate(whole) if p != place and p not in inside]
            return remade(node, [*outside, (add_terms(terms, factor.shape), slots)])
    return None


def _below(term: Expr, slots: Groups) -> set[tuple[Expr, Groups]]:
    """What a term is divided by, on the labels that the axes of the term have where it stands."""
    _, operands, output, _ = as_operands(term)
    labels = {own[0]: group for own, group in zip(output, slots, strict=True) if len(own) == 1}
    found = set()
    for factor, axes in operands:
        base, exponent = based(factor)
        if not isinstance(exponent, complex) and exponent < 0 and all(g and g[0] in labels for g in axes):
            found.add((base, tuple(labels[group[0]] for group in axes)))
    return found


@rule("algebra", Sum)
def terms_that_cancel(node: Sum) -> Expr | None:
    """(1 - t) s - t (1 - s) → s - t: products with sums multiplied out, where fewer factors are left.

    Ends, as there are fewer factors.
    """
    if len(node.terms) > 6 or any(isinstance(term, Sum) for term in node.terms):
        return None
    expanded = [part for term in node.terms for part in _multiplied_out(term)]
    if len(expanded) == len(node.terms) or len(expanded) > 12:
        return None
    total = add_terms(expanded, node.shape)
    return total if _factors_in(total) < _factors_in(node) else None


def _multiplied_out(term: Expr) -> list[Expr]:
    """The terms of a product in which one factor is a sum, all of it entry by entry."""
    coefficient, operands, output, sizes = as_operands(term)
    sums = [place for place, (factor, _) in enumerate(operands) if isinstance(factor, Sum)]
    if len(sums) != 1 or set(flat(output)) != set(sizes):
        return [term]
    factor, slots = operands[sums[0]]
    others = [operand for place, operand in enumerate(operands) if place != sums[0]]
    return [contract(coefficient, [*others, (part, slots)], output, sizes) for part in factor.children]


def _factors_in(node: Expr) -> int:
    """How many factors a sum of products has, a sum inside counted by its terms."""
    terms = node.terms if isinstance(node, Sum) else (node,)
    counts = [[len(f.terms) if isinstance(f, Sum) else 1 for f, _ in as_operands(term)[1]] for term in terms]
    return sum(max(1, sum(count)) for count in counts)


@rule("algebra", Sum)
def squares_of_sine_and_cosine(node: Sum) -> Expr | None:
    """sin(x)**2 y + cos(x)**2 y → y.

    Ends, as two terms become one.
    """
    if len(node.terms) > SHORT:
        return None
    left: dict[tuple[Expr, Groups, Expr], tuple[str, int]] = {}
    for place, term in enumerate(node.terms):
        _, operands, output, _ = as_operands(term)
        for name in ("sin", "cos"):
            for factor in dict.fromkeys(operands):
                if not named(factor.node, name) or operands.count(factor) < 2:
                    continue
                if not set(flat(factor.slots)) <= set(flat(output)):  # labels of other names may be summed elsewhere
                    continue
                rest = _without_square(term, factor)
                key = (factor.node.children[0], factor.slots, rest)
                if key in left and left[key][0] != name:
                    others = [t for p, t in enumerate(node.terms) if p not in (place, left[key][1])]
                    return add_terms([*others, rest], node.shape)
                left[key] = (name, place)
    return None


def _without_square(term: Expr, factor: Operand) -> Expr:
    coefficient, operands, output, sizes = as_operands(term)
    operands.remove(factor)
    operands.remove(factor)
    return contract(coefficient, operands, output, sizes)


@rule("declared", Contraction, Sum)
def symmetric_orientation(node: Expr) -> Expr | None:
    """Symmetric factors with their axes in one order, so that x @ S and S @ x are one, and S + Sᵀ is 2 S.

    Ends, as the factors stay, in the order of the canonical form.
    """
    if isinstance(node, Sum) and len(node.terms) > SHORT:
        return None
    found = oriented(node)
    if isinstance(node, Sum) and isinstance(found, Sum) and len(found.terms) == len(node.terms):
        return None  # the same terms: which of S and its transpose stands for both is for the canonical form to say
    return None if found is node else found
