"""What a command shows of its problem and of a result."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.text import Text

from tensordsl.command.files import Output
from tensordsl.command.problem import Problem, derivative_name
from tensordsl.command.terminal import Page, formula
from tensordsl.errors import show_shape
from tensordsl.expr import Expr


def introduce(page: Page, problem: Problem, result: Expr | None = None) -> None:
    """The heading: the expression, the shapes, and which of them were assumed."""
    lines = [formula(Text(f"{problem.name} = {problem.text.strip()}", style="bold"))]
    symbols = problem.node.symbols | ({problem.wrt} if problem.wrt is not None else set())
    given = sorted((s for s in symbols if s not in problem.assumed), key=lambda s: s.name)
    shapes = [f"{problem.name} {show_shape(problem.node.shape)}"]
    if problem.wrt is not None and result is not None:
        title = derivative_name(problem.name, problem.wrt.name, problem.order, page.ascii)
        shapes.append(f"{title} {show_shape(result.shape)}")
    lines.append(
        Text("shapes   " + "   ".join([*(f"{s.name} {show_shape(s.shape)}" for s in given), *shapes]), style="aside")
    )
    if words := assumption(problem):
        lines.append(Text(words, style="aside"))
    page.panel(lines)
    page.show()


def assumption(problem: Problem) -> str:
    """Which shapes were assumed, and how to give others; and what --assume says. Empty where that is nothing."""
    shapes = {s.name: show_shape(s.shape) for s in problem.assumed}
    words = [
        " ".join([name, *([shapes[name]] if name in shapes else []), *problem.properties.get(name, ())])
        for name in sorted(shapes.keys() | problem.properties.keys())
    ]
    example = " ".join(f"--shape {s.name}={','.join(map(str, s.shape))}" for s in problem.assumed[:1])
    return "assumed  " + "   ".join(words) + (f"   (give others as {example})" if example else "") if words else ""


def summary(page: Page, problem: Problem, value: Any, kind: Output) -> None:
    """What a result is, and its entries as far as they fit."""
    title = (
        problem.name
        if problem.wrt is None
        else derivative_name(problem.name, problem.wrt.name, problem.order, page.ascii)
    )
    entries = value.data if kind is Output.SPARSE else np.asarray(value)
    words = f"{show_shape(np.shape(value))} {entries.dtype}, "
    words += (
        f"{entries.size:,} numbers stored of {int(np.prod(value.shape, dtype=object)):,}"
        if kind is Output.SPARSE
        else f"{entries.size:,} number{'s' * (entries.size != 1)}"
    )
    if entries.size and entries.dtype.kind in "fc":
        odd = int(entries.size - np.count_nonzero(np.isfinite(entries)))
        words += f", {odd:,} of them not finite" if odd else ""
    page.heading(title, words)
    if kind is Output.DENSE:
        width = min(page.width, 100) - 2
        with np.printoptions(linewidth=width, threshold=200, edgeitems=3, precision=6, suppress=False):
            for line in str(value).splitlines():
                page.raw(f"  {line}".rstrip())
        return
    shown = 20
    width = max((len(str(int(c))) for axis in value.coords for c in axis[:shown]), default=1)
    for place, number in list(zip(zip(*value.coords, strict=True), value.data, strict=True))[:shown]:
        page.raw("  [" + ",".join(f"{int(c):>{width}}" for c in place) + f"]  {number:.6g}")
    if value.nnz > shown:
        page.raw(f"  ... and {value.nnz - shown:,} more; --out J.npz writes them all")
