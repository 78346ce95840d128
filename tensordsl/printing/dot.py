"""The graph of an expression, in the language of graphviz."""

from __future__ import annotations

from tensordsl.errors import show_shape
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Primitive, Select, Symbol, operation
from tensordsl.graph import topological
from tensordsl.labels import Groups
from tensordsl.program.kernels import LETTERS


@operation("to_dot")
def to_dot(e: Expr) -> str:
    """The source of a picture: a box for each node, an arrow from each argument, the labels of a contraction on it."""
    names = {node: f"n{place}" for place, node in enumerate(topological([e]))}
    lines = ["digraph {", "    rankdir=BT; node [shape=box, style=rounded];"]
    for node, name in names.items():
        lines.append(f'    {name} [label="{title(node)}\\n{show_shape(node.shape)}"];')
        labels = [text(slots) for slots in node.slots] if isinstance(node, Contraction) else [""] * len(node.children)
        lines += [
            f'    {names[child]} -> {name} [label="{label}"];'
            for child, label in zip(node.children, labels, strict=True)
        ]
    return "\n".join([*lines, "}"]) + "\n"


def title(node: Expr) -> str:
    if isinstance(node, Symbol):
        return node.name
    if isinstance(node, Contraction):
        number = "" if node.coefficient == 1 else f"{node.coefficient} · "
        return f"{number}{','.join(map(text, node.slots))} → {text(node.output)}"
    if isinstance(node, Elementwise | Primitive):
        return node.record.name
    return {Constant: "constant", Select: "select"}.get(type(node), "+")


def text(groups: Groups) -> str:
    """The letters of labels; a group in parentheses."""
    parts = ["".join(LETTERS[label % len(LETTERS)] for label in group) for group in groups]
    return "".join(part if len(part) == 1 else f"({part})" for part in parts)
