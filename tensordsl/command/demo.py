"""`tensordsl demo`: one derivative on real data, in every reading, computed in three ways and checked each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from rich.text import Text

from tensordsl.calculus import jacobian, jacobian_matrix
from tensordsl.command.terminal import Page, formula
from tensordsl.dims import dim
from tensordsl.errors import DerivativeError, amount
from tensordsl.execution.compiled import compile as compile_function
from tensordsl.expr import Expr, Symbol
from tensordsl.functions.convert import matrix, vector
from tensordsl.functions.multilinear import outer
from tensordsl.printing.forms import readings
from tensordsl.program.plan import plan as make_plan

ALLOWED = 1e-6  # of a gap between the derivative and a numerical one, relative to the largest entry of its slice

Array = np.ndarray[Any, Any]


class Wines(NamedTuple):
    """The covariance of the measurements, and the weights that give each of them the same volatility."""

    features: tuple[str, ...]
    samples: int
    covariance: Array
    weights: Array


class Way(NamedTuple):
    """One way to compute the derivative: what it gives, what that took and stored, and how far off it is."""

    output: str
    gives: str
    numbers: int
    seconds: float
    gap: float | None


def load() -> Wines:
    """The data that lies inside the package; data/README says where it is from."""
    found = json.loads((files("tensordsl") / "data" / "wine.json").read_text(encoding="utf-8"))
    covariance = np.array(found["covariance"])
    weights = 1 / np.sqrt(np.diag(covariance))
    return Wines(tuple(found["features"]), found["samples"], covariance, weights / weights.sum())


def problem(ascii: bool = False) -> tuple[Expr, Symbol]:
    """The contributions F = Σ ∘ wwᵀ, and w."""
    k = dim("k")
    w = vector("w", k)
    return matrix("S" if ascii else "Σ", k, k) * outer(w, w), w


def numerical(covariance: Array, weights: Array) -> Array:
    """∂F/∂w by central differences of the formula itself: plain NumPy that knows nothing of any rule."""

    def value(w: Array) -> Array:
        return np.asarray(covariance * np.outer(w, w))

    columns = []
    for place, weight in enumerate(weights):
        step = np.zeros_like(weights)
        step[place] = 1e-3 * weight
        columns.append((value(weights + step) - value(weights - step)) / (2 * step[place]))
    return np.stack(columns, axis=-1)


def gap(found: Array, expected: Array) -> float:
    """The largest difference, relative to the largest entry of the slice ∂F/∂w[k] that it is in."""
    scale = np.abs(expected).max(axis=(0, 1))
    worst = float((np.abs(found - expected) / scale).max())
    if not worst <= ALLOWED:
        raise DerivativeError(
            f"The derivative of the demonstration differs from a numerical one by {worst:.2g}, where "
            f"{ALLOWED:.2g} is allowed."
        )
    return worst


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and the time it takes when everything is warm."""
    value = function()
    best = float("inf")
    for _ in range(20):
        start = perf_counter()
        function()
        best = min(best, perf_counter() - start)
    return value, best


def ways(wines: Wines) -> list[Way]:
    """The derivative dense, sparse, as an operator, and by central differences; each one checked against the last."""
    F, w = problem()
    J = jacobian(F, w)
    k = len(wines.features)
    data = {"Σ": wines.covariance, "w": wines.weights}
    expected, slow = timed(lambda: numerical(wines.covariance, wines.weights))

    evaluate = compile_function(J)
    dense, dense_time = timed(lambda: evaluate(**data))

    evaluate_sparse = compile_function(J, output="sparse")
    sparse, sparse_time = timed(lambda: evaluate_sparse(**data))

    operator = compile_function(jacobian_matrix(F, w), output="operator")(**data)
    direction = wines.weights[::-1].copy()
    _, operator_time = timed(lambda: operator @ direction)
    # Row i + k*j of the operator is the entry i,j of F: vec stacks columns.
    columns = np.stack([operator @ e for e in np.eye(k)], axis=-1).reshape(k, k, k).transpose(1, 0, 2)
    rows = np.stack([operator.T @ e for e in np.eye(k * k)]).reshape(k, k, k).transpose(1, 0, 2)
    operator_gap = max(gap(columns, expected), gap(rows, expected))

    return [
        Way("dense", "every entry", dense.size, dense_time, gap(dense, expected)),
        Way("sparse", "the entries not always zero", sparse.nnz, sparse_time, gap(sparse.toarray(), expected)),
        Way("operator", "products, from Σ and w alone", k * k + k, operator_time, operator_gap),
        Way("differences", "every entry, nearly", expected.size, slow, None),
    ]


class Share(NamedTuple):
    """One measurement: its weight, its contribution to the variance as a share, and the derivative of the variance."""

    feature: str
    weight: float
    share: float
    marginal: float


def shares(wines: Wines) -> list[Share]:
    """Who carries the variance wᵀΣw, the largest contribution first.

    The variance is the sum of F, so a contribution is the sum of a row of F, and a marginal contribution the sum of a
    slice of the derivative.
    """
    F, w = problem()
    both = compile_function((F, jacobian(F, w)))
    value, slope = both(Σ=wines.covariance, w=wines.weights)
    rows = [
        Share(*row)
        for row in zip(
            wines.features,
            map(float, wines.weights),
            map(float, value.sum(axis=1) / value.sum()),
            map(float, slope.sum(axis=(0, 1))),
            strict=True,
        )
    ]
    return sorted(rows, key=lambda row: -row.share)


# --- what is shown --------------------------------------------------------------------------------------------------


CODE = """\
k = td.dim("k")
w, {S} = td.vector("w", k), td.matrix("{S}", k, k)
F = {S} * td.outer(w, w)
J = td.jacobian(F, w)"""


def clock(seconds: float, ascii: bool) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} {'us' if ascii else 'µs'}"
    return f"{seconds * 1e3:.1f} ms"


def bar(share: float, largest: float, ascii: bool, width: int = 18) -> Text:
    """A share as a bar, of another colour (in ASCII, of another sign) where it is negative."""
    style = "good" if share >= 0 else "red"
    full, parts = divmod(round(abs(share) / largest * width * 8), 8)
    if ascii:
        return Text("#" * (full + (parts >= 4)) if share >= 0 else "-" * max(1, full), style=style)
    return Text("█" * full + " ▏▎▍▌▋▊▉"[parts].strip(), style=style)


def show(page: Page) -> None:
    """Print the whole tour."""
    ascii = page.ascii
    S, d, top = ("S", "d", ".T") if ascii else ("Σ", "∂", "ᵀ")
    dot = "*" if ascii else "∘"
    wines = load()
    k = len(wines.features)
    F, w = problem(ascii)
    J = jacobian(F, w)

    page.panel(
        [
            f"{wines.samples} Italian wines, {k} chemical measurements (UCI Wine data, CC BY 4.0).",
            Text.assemble(
                (S, "bold"),
                " is their covariance. The weights ",
                ("w", "bold"),
                " turn the measurements of a wine into",
            ),
            "one index of how rich it is, each measurement with the same volatility.",
            "",
            formula(Text(f"F = {S} {dot} w w{top}", style="bold")),
            "",
            f"shares out the variance w{top} {S} w of that index over pairs of measurements,",
            "as it shares out the risk of a portfolio over its assets.",
            f"How does every contribution react to every weight? That is {d}F/{d}w.",
        ],
        "tensordsl demo",
    )
    page.show()
    page.show(*[Text("  ") + page.source(line.format(S=S)) for line in CODE.splitlines()])

    page.show()
    page.readings(readings(F, w, ascii), make_plan(J, k=k))

    page.show()
    found = ways(wines)
    page.heading("computed in three ways", "each verified against central differences in plain NumPy")
    table = page.table()
    table.add_column("output", no_wrap=True)
    table.add_column("what it gives")
    table.add_column("numbers", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("gap", justify="right", no_wrap=True)
    for way in found:
        style = "aside" if way.gap is None else None
        table.add_row(
            way.output,
            way.gives.replace("Σ", S),
            f"{way.numbers:,}",
            clock(way.seconds, ascii),
            "" if way.gap is None else Text(f"{way.gap:.0e}", style="good"),
            style=style,
        )
    page.show(table)
    big = 4000
    cube = "k*k*k" if ascii else "k³"
    square = "2*k*k" if ascii else "2k²"
    page.prose(
        f"Of the {cube} = {k**3:,} entries, {square} = {2 * k * k} hold everything. For k = {big:,} that is "
        f"{amount(8 * big**3)} against {amount(16 * big**2)} of values, and the operator needs neither."
    )

    page.show()
    rows = shares(wines)
    page.heading("who carries the variance", f"share of w_i ({S} w)_i, marginal {d}(w{top} {S} w)/{d}w_i")
    table = page.table()
    table.add_column("measurement", overflow="fold", min_width=16)
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("marginal", justify="right", no_wrap=True)
    bar_width = 18 if page.width >= 90 else 12
    largest = max(abs(row.share) for row in rows)
    for row in rows:
        table.add_row(
            row.feature,
            f"{row.weight:#.3g}",
            f"{row.share:.1%}",
            bar(row.share, largest, ascii, bar_width),
            f"{row.marginal:+.4f}",
        )
    page.show(table)
    negative = [row.feature for row in rows if row.share < 0]
    total = sum(row.share for row in rows)
    page.prose(
        f"The contributions sum to {total:.0%}. {len(negative)} measurements lower the variance: {', '.join(negative)}."
    )
    page.show()
    own = f"tensordsl diff 'A * outer(x, x)' --wrt x{' --ascii' * ascii}"
    page.show(Text.assemble("Now your own:  ", (own, "bold")))
