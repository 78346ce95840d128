"""Derivatives: one local Jacobian for each kind of node, and the two sweeps that join them.

A local Jacobian is a contraction, never an array: a product of factors whose labels carry every δ. A reverse sweep
joins it with the adjoint of the node, a forward sweep with the differential of the argument, so that jacobian, grad,
vjp, jvp, hvp and differential follow from the same rule. Adjoints join as any contractions do, so the order in which a
chain is accumulated (forward, reverse, mixed) is left to the contraction path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tensordsl.contraction import Operand, add_terms, contract, is_zero, zero
from tensordsl.dims import AnySize, Shape
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Contraction, Elementwise, Expr, Number, Primitive, Sum, Symbol
from tensordsl.functions.convert import plain
from tensordsl.graph import topological
from tensordsl.labels import Groups, Label, flat, singles


class LocalJacobian(NamedTuple):
    """∂node/∂child as the parts of a contraction: `out` labels the axes of the node, `into` those of the child."""

    coefficient: Number
    operands: list[Operand]
    out: Groups
    into: Groups
    sizes: dict[Label, AnySize]


def local_jacobian(node: Expr, place: int) -> LocalJacobian | None:
    """The rule of each kind of node for its argument at `place`; None where the derivative is zero.

    Contraction: c Π F → the other factors. Sum: the identity. Elementwise: f′ on shared labels. Primitive: its
    record's.
    """
    if isinstance(node, Contraction):
        others = [Operand(f, s) for p, (f, s) in enumerate(zip(node.factors, node.slots, strict=True)) if p != place]
        return LocalJacobian(node.coefficient, others, node.output, node.slots[place], dict(enumerate(node.sizes)))
    if isinstance(node, Sum):
        labels = plain(node)
        return LocalJacobian(1, [], labels, labels, dict(enumerate(node.shape)))
    if isinstance(node, Elementwise):
        slope = node.record.derivative(node, *node.children)[place]
        if slope is None or is_zero(slope):
            return None
        labels = plain(node)
        return LocalJacobian(1, [Operand(slope, labels)], labels, labels, dict(enumerate(node.shape)))
    if isinstance(node, Primitive) and node.record.jacobian is not None:
        jacobian = node.record.jacobian(node, place)
        labels = plain(jacobian)
        return LocalJacobian(
            1, [Operand(jacobian, labels)], labels[: node.ndim], labels[node.ndim :], dict(enumerate(jacobian.shape))
        )
    raise UnsupportedError(f"There is no rule for the derivative of a {type(node).__name__} node.")


def _offset(groups: Groups, by: int) -> Groups:
    return tuple(tuple(label + by for label in group) for group in groups)


def _chain(
    local: LocalJacobian, tensor: Expr, extra: Shape, forward: bool, shared: frozenset[Expr] = frozenset()
) -> Expr:
    """Join a local Jacobian with an adjoint (axes: extra, then the node's) or a differential (the child's, extra)."""
    here = len(extra)
    free = singles(range(here))
    sizes: dict[Label, AnySize] = dict(enumerate(extra))
    sizes.update({label + here: size for label, size in local.sizes.items()})
    out, into = _offset(local.out, here), _offset(local.into, here)
    operands = [Operand(node, _offset(slots, here)) for node, slots in local.operands]
    slots, output = ((*into, *free), (*out, *free)) if forward else ((*free, *out), (*free, *into))
    return contract(local.coefficient, [*operands, Operand(tensor, slots)], output, sizes, shared)


def pull_back(root: Expr, seed: Expr, extra: Shape, variables: Sequence[Symbol]) -> list[Expr]:
    """The reverse sweep: from an adjoint of `root` (axes: extra, then root's) to the adjoints of the variables."""
    wanted = frozenset(variables)
    order = topological([root], lambda node: not wanted.isdisjoint(node.symbols))
    adjoints: dict[Expr, list[Expr]] = {root: [seed]}
    results: dict[Expr, Expr] = {}
    for node in reversed(order):
        adjoint = add_terms(adjoints.pop(node, []), (*extra, *node.shape))
        if node in wanted:
            results[node] = adjoint
            continue
        if is_zero(adjoint):
            continue
        active = [place for place, child in enumerate(node.children) if not wanted.isdisjoint(child.symbols)]
        # An adjoint that is summed and used several times is computed once, not joined into each use.
        several = (
            len(active) > 1 and isinstance(adjoint, Contraction) and len(adjoint.sizes) > len(set(flat(adjoint.output)))
        )
        shared = frozenset([adjoint]) if several else frozenset()
        for place in active:
            if isinstance(node, Primitive) and node.record.pull is not None:
                adjoints.setdefault(node.children[place], []).append(node.record.pull(node, place, adjoint))
                continue
            local = local_jacobian(node, place)
            if local is not None:
                adjoints.setdefault(node.children[place], []).append(_chain(local, adjoint, extra, False, shared))
    return [results.get(variable, zero((*extra, *variable.shape))) for variable in variables]


def push_forward(root: Expr, directions: dict[Expr, Expr]) -> Expr:
    """The forward sweep: from a differential for each variable to the differential of `root`, of its shape."""
    wanted = frozenset(directions)
    tangents: dict[Expr, Expr] = {}
    for node in topological([root], lambda node: not wanted.isdisjoint(node.symbols)):
        if node in wanted:
            tangents[node] = directions[node]
            continue
        terms = []
        for place, child in enumerate(node.children):
            if child in tangents and not is_zero(tangents[child]):
                if isinstance(node, Primitive) and node.record.push is not None:
                    terms.append(node.record.push(node, place, tangents[child]))
                    continue
                local = local_jacobian(node, place)
                if local is not None:
                    terms.append(_chain(local, tangents[child], (), True))
        tangents[node] = add_terms(terms, node.shape)
    return tangents.get(root, zero(root.shape))
