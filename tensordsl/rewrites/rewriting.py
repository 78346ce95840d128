"""The engine of rewrites: a table of rules by the kind of node they look at, and one pass that applies them.

A pass goes from the leaves to the root, each node once. A node that a rule changes is looked at again, so that what is
returned is in normal form. Every rule says in its docstring why it ends; together they end because each takes away a
function, a factor or a term, or brings factors into an order that no other rule changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from tensordsl.contraction import add_terms, contract
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Contraction, Elementwise, Expr, Primitive
from tensordsl.functions.convert import as_expr

PHASES = ("algebra", "declared", "stable")
FIRINGS = 100_000  # more in one pass are a rule that does not end: an error of ours, not of the user

Key = str | type[Expr]  # the name of a function's record, or a kind of node


class Rule(NamedTuple):
    """One rewrite: its name, when it runs, which nodes it looks at, and what it makes of one (None: nothing)."""

    name: str
    phase: str
    on: tuple[Key, ...]
    apply: Callable[[Any], Expr | None]

    @property
    def why(self) -> str:
        """What it does, and why it ends."""
        return self.apply.__doc__ or ""


rules: list[Rule] = []


def rule(phase: str, *on: Key) -> Callable[[Callable[[Any], Expr | None]], Callable[[Any], Expr | None]]:
    """Register a rewrite under the name of its function."""

    def register(function: Callable[[Any], Expr | None]) -> Callable[[Any], Expr | None]:
        rules.append(Rule(function.__name__, phase, on, function))
        _table.cache_clear()
        return function

    return register


@cache
def _table(phases: tuple[str, ...]) -> Mapping[Key, tuple[Rule, ...]]:
    return by_key([found for found in rules if found.phase in phases])


def by_key(chosen: Iterable[Rule]) -> Mapping[Key, tuple[Rule, ...]]:
    table: dict[Key, list[Rule]] = {}
    for found in chosen:
        for key in found.on:
            table.setdefault(key, []).append(found)
    return {key: tuple(found) for key, found in table.items()}


def with_children(node: Expr, children: tuple[Expr, ...]) -> Expr:
    """The same node over other children."""
    if children == node.children:
        return node
    if isinstance(node, Contraction):
        return contract(
            node.coefficient, list(zip(children, node.slots, strict=True)), node.output, dict(enumerate(node.sizes))
        )
    if isinstance(node, Elementwise):
        return Elementwise(node.record, children)
    if isinstance(node, Primitive):
        return Primitive(node.record, children)
    return add_terms(children, node.shape)


def rewrite(roots: Sequence[Expr], table: Mapping[Key, tuple[Rule, ...]]) -> list[Expr]:
    """Each root in normal form under the rules of a table; what they share is rewritten once."""
    done: dict[Expr, Expr] = {}
    going: set[Expr] = set()  # nodes that are being changed, one into the next
    firings = 0

    def once(node: Expr) -> Expr | None:
        key: Key = node.record.name if isinstance(node, Elementwise | Primitive) else type(node)
        for found in table.get(key, ()):
            changed = found.apply(node)
            if changed is not None and changed is not node:
                return changed
        return None

    # A stack of tasks, so that neither a deep expression nor a long row of firings exhausts Python's own.
    waiting: list[tuple[Expr, Expr | None]] = [(root, None) for root in reversed(roots)]
    while waiting:
        node, changed = waiting.pop()
        if changed is not None:  # what the node was changed into is in normal form by now
            done[node] = done[changed]
            going.discard(node)
            continue
        if node in done:
            continue
        missing = [child for child in node.children if child not in done]
        if missing:
            waiting.append((node, None))
            waiting.extend((child, None) for child in missing)
            continue
        built = with_children(node, tuple(done[child] for child in node.children))
        found = built if built is not node else once(node)
        if found is None or found in going:  # the canonical form brought back what a rule had changed: it stays
            done[node] = node
            continue
        going.add(node)
        firings += 1
        if firings > FIRINGS:
            raise RecursionError(f"The rewrites of {type(node).__name__} do not end.")
        waiting.append((node, found))
        waiting.append((found, None))
    return [done[root] for root in roots]


def simplify(e: Any, phases: Sequence[str] = ("algebra", "declared")) -> Expr:
    """The expression as a mathematician would write it: inverses cancelled, powers joined, determinants multiplied out.

    Rules that hold only under a condition (square, positive, symmetric, orthogonal) are applied only where the
    condition is known, from shapes or from what was declared (phase "declared"). Equal up to rounding wherever both
    sides are defined; a gap in the domain may close, as in x/x. Derivatives are simplified before they are returned.
    The phase "stable" chooses forms that neither overflow nor lose digits, as `compile` does by itself. Raises
    `UnsupportedError` for another phase.

    >>> import tensordsl as td
    >>> A, B = td.matrix("A", 3, 3), td.matrix("B", 3, 3)
    >>> td.simplify(td.linalg.inv(A @ B) @ A) == td.linalg.inv(B)
    True
    >>> td.simplify(td.logdet(A @ B)) == td.logdet(A) + td.logdet(B)
    True
    """
    chosen = tuple(phases) if isinstance(phases, tuple | list) else (phases,)
    unknown = [phase for phase in chosen if not isinstance(phase, str) or phase not in PHASES]
    if unknown:
        raise UnsupportedError(f"simplify: the phase {unknown[0]!r} is unknown; known are {', '.join(PHASES)}.")
    return rewrite([as_expr(e)], _table(chosen))[0]


def simplified(roots: Sequence[Expr], *phases: str) -> list[Expr]:
    """Several expressions under the rules of some phases."""
    return rewrite(roots, _table(phases))


# What the rooms of rules share: contractions made over with other factors.


def remade(node: Contraction, operands: Sequence[Any], coefficient: Any = None) -> Expr:
    """A contraction of the same axes with other operands."""
    value = node.coefficient if coefficient is None else coefficient
    return contract(value, list(operands), node.output, dict(enumerate(node.sizes)))


def unified(node: Contraction, operands: Sequence[Any], kept: int, gone: int) -> Expr:
    """A contraction of other operands in which one label takes the place of another: Σ_j δ_ij."""
    names = {label: kept if label == gone else label for label in range(len(node.sizes))}

    def renamed(groups: Any) -> Any:
        return tuple(tuple(names[label] for label in group) for group in groups)

    sizes = {label: size for label, size in enumerate(node.sizes) if label != gone}
    return contract(node.coefficient, [(f, renamed(s)) for f, s in operands], renamed(node.output), sizes)
