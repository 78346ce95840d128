"""What an expression is made into before it is written: the sums and products that a reader would call by a name.

Nothing here is computed with. Inner products are joined, so that a scalar is not hidden in parentheses; what the terms
of an inner sum have in common comes out of it; and a contraction with the permutation tensor is a cross product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tensordsl.contraction import Operand, add_terms, as_operands, contract
from tensordsl.dims import AnySize
from tensordsl.expr import Constant, Contraction, Expr, Primitive, Sum
from tensordsl.facts import oriented
from tensordsl.functions.convert import identity
from tensordsl.functions.record import PrimitiveRecord
from tensordsl.graph import rebuild
from tensordsl.labels import Groups, Label, flat
from tensordsl.printing.common import Common, common_scalars
from tensordsl.rewrites.factors import distributed
from tensordsl.rewrites.rewriting import with_children

# A name for what the printers find, as they print the calls of other functions. No program ever meets it.
CROSS = PrimitiveRecord("cross", 2, "", lambda *shapes: max(shapes, key=len), "", r"\operatorname{cross}", axes=1)
PERMUTATION = np.fromfunction(lambda i, j, k: (i - j) * (j - k) * (k - i) // 2, (3, 3, 3), dtype=int)


def readable(root: Expr) -> Expr:
    """An expression of equal value, for the printers alone."""
    return rebuild(root, _readable)


def _readable(node: Expr, children: tuple[Expr, ...]) -> Expr:
    made = node if children == node.children else with_children(node, children)
    if isinstance(made, Sum):  # S + Sᵀ is 2 S for a symmetric S
        found = oriented(made)
        return made if isinstance(found, Sum) and len(found.terms) == len(made.terms) else found
    return crossed(opened(made)) if isinstance(made, Contraction) else made


def opened(node: Contraction) -> Expr:
    """A contraction with inner products joined, and the scalars of its inner sums taken out of them."""
    if distributed(node) is not node:
        return node
    operands: list[tuple[Expr, Groups]] = []
    for factor, slots in zip(node.factors, node.slots, strict=True):
        scalars, rest = common_scalars(factor.terms) if isinstance(factor, Sum) else Common((), ())
        operands += [(scalar, ()) for scalar in scalars]
        operands.append((add_terms(rest, factor.shape) if scalars else factor, slots))
    if len(operands) == len(node.factors) and not any(isinstance(factor, Contraction) for factor in node.factors):
        return node
    return contract(node.coefficient, operands, node.output, dict(enumerate(node.sizes)))


# --- cross products -----------------------------------------------------------------------------------------------


def crossed(node: Expr) -> Expr:
    """A contraction with ε_abc as one with x × y, or where only one axis of ε is summed over a vector, with [x]×."""
    if not isinstance(node, Contraction):
        return node
    _, operands, output, sizes = as_operands(node)
    for place, (factor, slots) in enumerate(operands):
        if not is_permutation(factor) or any(len(group) != 1 for group in slots) or len(set(slots)) < 3:
            continue
        labels = flat(slots)
        rest = operands[:place] + operands[place + 1 :]
        vectors = {label: found for label in labels if (found := hanging(label, rest, output, labels)) is not None}
        if vectors:
            return crossed(_named(node, rest, labels, vectors, sizes))
    return node


def _named(
    node: Contraction,
    rest: Sequence[Operand],
    labels: Sequence[Label],
    vectors: dict[Label, list[Operand]],
    sizes: dict[Label, AnySize],
) -> Expr:
    def vector(label: Label) -> Expr:
        within = {la for _, slots in vectors[label] for la in flat(slots)}
        return crossed(contract(1, vectors[label], ((label,),), {la: sizes[la] for la in within}))

    turns = [(*labels[shift:], *labels[:shift]) for shift in range(3)]  # even permutations
    both = [(a, b, c) for a, b, c in turns if b in vectors and c in vectors]
    if both:
        a, b, c = both[0]
        used = [*vectors[b], *vectors[c]]
        made = Operand(Primitive(CROSS, (vector(b), vector(c))), ((a,),))
    else:
        a, b, c = next(turn for turn in turns if turn[0] in vectors)
        used = vectors[a]
        made = Operand(Primitive(CROSS, (identity(3), vector(a))), ((c,), (b,)))
    kept = [operand for operand in rest if not any(operand is one for one in used)]
    gone = {la for _, slots in used for la in flat(slots)}
    return contract(node.coefficient, [*kept, made], node.output, {la: s for la, s in sizes.items() if la not in gone})


def is_permutation(node: Expr) -> bool:
    """Whether a constant is ε, 1 for the even permutations of 0, 1, 2, -1 for the odd ones, else 0."""
    return isinstance(node, Constant) and node.shape == (3, 3, 3) and np.array_equal(node.array, PERMUTATION)


def hanging(label: Label, operands: Sequence[Operand], output: Groups, others: Sequence[Label]) -> list[Operand] | None:
    """The factors of the vector that is summed over `label`, where they touch neither the output nor `others`."""
    found: list[Operand] = []
    labels, seen = {label}, set(flat(output)) | (set(others) - {label})
    while True:
        more = [o for o in operands if not any(o is f for f in found) and labels & set(flat(o.slots))]
        if not more:
            break
        found += more
        labels |= {la for _, slots in more for la in flat(slots)}
    return found if found and not labels & seen else None
