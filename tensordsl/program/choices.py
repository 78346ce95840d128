"""Which of several equal expressions is computed: the one whose instructions cost the least.

A product with a sum can be made of the whole sum, of the factors that its terms have in common, or term by term.
Which is cheapest hangs on the sizes, so each is lowered, and its cost counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tensordsl.contraction import add_terms, as_operands, contract, is_structured
from tensordsl.expr import Contraction, Expr, Sum
from tensordsl.graph import rebuild, topological
from tensordsl.labels import flat
from tensordsl.program.blocks import Blocks
from tensordsl.program.instructions import Instruction
from tensordsl.program.kernels import Map, Product
from tensordsl.rewrites.factors import arranged
from tensordsl.rewrites.rewriting import with_children

# Of one core, about: what matters is how they compare.
PRODUCT_FLOPS = 2e10  # a second, in products of matrices
ENTRY_FLOPS = 2e9  # in functions entry by entry
BANDWIDTH = 1e10  # bytes a second
CALL = 1e-6  # seconds
GAIN = 1.5  # how much less a product made term by term must cost: it may round more where terms cancel
NODES = 400  # beyond so many, an expression is taken as it is
WORTH = 5e-5  # seconds below which a better plan saves less than finding it takes
TRIED = 3  # sums that are tried term by term, the largest


def seconds(instructions: Sequence[Instruction]) -> float:
    """About how long instructions take."""
    return sum(map(duration, instructions))


def duration(step: Instruction) -> float:
    """About how long one instruction takes: it computes while its arrays go through memory."""
    if step.kernel.views:
        return 0.0
    return max(_computing(step), step.bytes / BANDWIDTH) + CALL


def _computing(step: Instruction) -> float:
    kernel = step.kernel
    if isinstance(kernel, Blocks):
        return sum(map(_computing, kernel.body)) / kernel.chunks
    entrywise = isinstance(kernel, Map) or (isinstance(kernel, Product) and kernel.entrywise)
    return step.flops / (ENTRY_FLOPS if entrywise else PRODUCT_FLOPS)


def cheapest(roots: Sequence[Expr], cost: Callable[[Sequence[Expr]], float]) -> Sequence[Expr]:
    """The expressions, or equal ones that cost less."""
    nodes = topological(roots)
    if len(nodes) > NODES or not any(_has_a_choice(node) for node in nodes):
        return roots
    tried: dict[tuple[Expr, ...], float] = {tuple(roots): cost(roots)}
    if tried[tuple(roots)] < WORTH:
        return roots
    for change in (_joined, _arranged):
        for found in list(tried):
            changed = tuple(rebuild(root, change) for root in found)
            if changed not in tried:
                tried[changed] = cost(changed)
    best, least = min(tried.items(), key=lambda either: either[1])
    for node in list(_by_terms(best))[:TRIED]:
        apart = tuple(rebuild(root, lambda n, children: _apart(n, children, node)) for root in best)  # noqa: B023
        price = cost(apart)
        if price * GAIN < least:
            best, least = apart, price
    return best


def _has_a_choice(node: Expr) -> bool:
    return isinstance(node, Contraction) and any(isinstance(factor, Sum | Contraction) for factor in node.factors)


def _joined(node: Expr, children: tuple[Expr, ...]) -> Expr:
    """A node with the products among its factors multiplied out into it, those too that others have as well."""
    if not isinstance(node, Contraction):
        return with_children(node, children)
    operands = list(zip(children, node.slots, strict=True))
    return contract(node.coefficient, operands, node.output, dict(enumerate(node.sizes)))


def _arranged(node: Expr, children: tuple[Expr, ...]) -> Expr:
    """A node with the common factors of the sums among its factors taken out and joined."""
    return arranged(with_children(node, children))


def _by_terms(roots: Sequence[Expr]) -> Iterator[Contraction]:
    """Contractions over the labels of one sum, of which each term is a contraction itself; the last first.

    A sum that stands twice stays whole: term by term, the square of a small difference is a difference of large ones.
    """
    for node in reversed(topological(roots)):
        if not isinstance(node, Contraction):
            continue
        sums = [factor for factor in node.factors if isinstance(factor, Sum) and not is_structured(factor)]
        if len(sums) != 1 or len(node.factors) < 2:
            continue
        kept = set(flat(node.output))
        slots = node.slots[node.factors.index(sums[0])]
        if any(label not in kept for label in flat(slots)) and any(len(as_operands(t)[1]) > 1 for t in sums[0].terms):
            yield node


def _apart(node: Expr, children: tuple[Expr, ...], chosen: Contraction) -> Expr:
    """A node over new children; the one that was chosen as the sum of its products with each term."""
    if node is not chosen:
        return with_children(node, children)
    assert isinstance(node, Contraction)
    place = next((p for p, child in enumerate(children) if isinstance(child, Sum)), None)
    if place is None:
        return with_children(node, children)
    sizes = dict(enumerate(node.sizes))
    terms = []
    for term in children[place].children:
        factors = [*children[:place], term, *children[place + 1 :]]
        terms.append(contract(node.coefficient, list(zip(factors, node.slots, strict=True)), node.output, sizes))
    return add_terms(terms, node.shape)
