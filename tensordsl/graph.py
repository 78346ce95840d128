"""Traversal that knows no operator: iterative, so any depth works, and each node once, so sharing stays linear."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tensordsl.expr import Expr


def topological(roots: Iterable[Expr], enter: Callable[[Expr], bool] = lambda node: True) -> list[Expr]:
    """The nodes below the roots, each once, children before parents; nodes that `enter` refuses are left out."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen and enter(node):
            seen.add(node)
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children) if child not in seen)
    return order


def rebuild(root: Expr, change: Callable[[Expr, tuple[Expr, ...]], Expr]) -> Expr:
    """The expression with `change(node, new children)` in place of each node, each node changed once."""
    built: dict[Expr, Expr] = {}
    for node in topological([root]):
        built[node] = change(node, tuple(built[child] for child in node.children))
    return built[root]
