"""A measurement, shown: as tables in the terminal, as docs/performance.md, and as a chart."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
CAUSES = Path(__file__).with_name("causes.toml")
PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "performance"
OURS, REFERENCE = "tensordsl", "by hand"
Row = dict[str, Any]


def show_time(value: float | None) -> str:
    if value is None:
        return "–"
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if value * scale >= 0.9995:
            return f"{value * scale:.3g} {unit}" if value * scale < 1000 else f"{value * scale:.0f} {unit}"
    return f"{value * 1e9:.3g} ns"


def show_bytes(value: float) -> str:
    return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"


# ------------------------------------------------------------------------------------------------ verdicts


class Verdict(NamedTuple):
    """How the library stands in a row: its ratios, where they exist, and what it misses."""

    beside_hand: float | None
    best_peer: str | None
    ahead: float | None
    missed: tuple[str, ...]


def ratios(row: Row, name: str, other: str) -> list[float]:
    """How many times longer `name` takes than `other`, in each of the rounds, in which both had a turn."""
    ours, theirs = (row["results"].get(side, {}).get("seconds", []) for side in (name, other))
    if row["symbolic"]:
        ours, theirs = ours and [median(ours)], theirs and [median(theirs)]
    return [our / their for our, their in zip(ours, theirs, strict=False)]


def beside(row: Row, name: str, other: str) -> float | None:
    """How many times longer `name` takes than `other`: the median over the rounds."""
    found = ratios(row, name, other)
    return median(found) if found else None


def spread(row: Row) -> str:
    """Between what the ratios of the rounds lie, beside the reference and the best peer: whether they agree at all."""
    against = [name for name in (REFERENCE, verdict(row).best_peer) if name is not None]
    found = [(name, ratios(row, OURS, name)) for name in against]
    words = [f"{number(min(r))} to {number(max(r))} × {name}" for name, r in found if r]
    return f"round by round, {' and '.join(words)}"


def first_beside(row: Row) -> float | None:
    """How many times longer the first result of the quickest peer takes than the library's."""
    firsts = {name: figures["first"] for name, figures in row["results"].items() if "error" not in figures}
    ours = firsts.pop(OURS, None)
    firsts.pop(REFERENCE, None)
    return min(firsts.values()) / ours if ours and firsts else None


def verdict(row: Row) -> Verdict:
    results = row["results"]
    peers = {n: f["median"] for n, f in results.items() if n not in (OURS, REFERENCE) and "median" in f}
    best = min(peers, key=peers.__getitem__) if peers else None
    hand = beside(row, OURS, REFERENCE)
    ahead = beside(row, best, OURS) if best else None
    missed = []
    if "error" in results.get(OURS, {}):
        missed.append(f"no result: {results[OURS]['error']}")
    if hand is not None and row["target"] is not None and hand > row["target"]:
        missed.append(f"over the target of {row['target']:g}")
    if ahead is not None and ahead < row["ahead"]:
        missed.append(f"behind {best}" if ahead < 1 else f"{ahead:.2g} times ahead, not {row['ahead']:g}")
    cold = first_beside(row)
    if row["symbolic"] and cold is not None and cold < row["ahead"]:
        missed.append(f"{cold:.2g} times ahead when cold, not {row['ahead']:g}")
    peak = results.get(OURS, {}).get("peak")
    if row["memory"] is not None and peak is not None and peak > row["memory"]:
        missed.append(f"{show_bytes(peak)}, over {show_bytes(row['memory'])}")
    return Verdict(hand, best, ahead, tuple(missed))


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def heading(row: Row) -> str:
    pages = {"default": "", "huge": ", huge pages for all"}[row["pages"]]
    return f"{row['sizes']}{pages}"


# ------------------------------------------------------------------------------------------------ terminal


def show(row: Row) -> None:
    table = Table(title=f"{row['workload']}: {row['title']}, {heading(row)}", title_justify="left")
    for column in ("", "first", "steady", "× by hand", "× tensordsl", "peak RSS"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    reasons = {name: figures["error"] for name, figures in row["results"].items() if "error" in figures}
    for name, *cells in lines(row):
        table.add_row(name, *(cells if name not in reasons else []))
    console = Console()
    console.print(table)
    for name, reason in reasons.items():
        console.print(f"  {name}: {reason}", markup=False, highlight=False)
    for miss in verdict(row).missed:
        console.print(f"  {miss}", style="red", markup=False)


def lines(row: Row) -> Iterator[tuple[str, ...]]:
    """One of each contender: name, first, steady, ratios, peak. Who gives no result says why in place of times."""
    for name, figures in row["results"].items():
        if "error" in figures:
            yield name, figures["error"], "", "", "", ""
            continue
        ratios = [beside(row, name, other) for other in (REFERENCE, OURS)]
        shown = ["–" if ratio is None else f"{ratio:.3g}" for ratio in ratios]
        yield name, show_time(figures["first"]), show_time(figures.get("median")), *shown, show_bytes(figures["peak"])


# ---------------------------------------------------------------------------------------------------- page


def split(run: dict[str, Any]) -> tuple[list[Row], list[Row]]:
    """The rows in which something runs, and those in which something is derived."""
    return [row for row in run["rows"] if not row["symbolic"]], [row for row in run["rows"] if row["symbolic"]]


def write(run: dict[str, Any]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(run, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / "latest.json").write_text(text, encoding="utf-8")
    (FOLDER / "chart.svg").write_text(chart(split(run)[0]), encoding="utf-8")
    PAGE.write_text(page(run), encoding="utf-8")


def page(run: dict[str, Any]) -> str:
    causes = tomllib.loads(CAUSES.read_text(encoding="utf-8"))
    fused = FOLDER / "fused.md"
    timed, derived = split(run)
    parts = [
        introduction(run),
        *([summary(timed)] if timed else []),
        *(workload(list(rows), causes) for _, rows in groupby(timed, key=lambda row: row["workload"])),
        *([derivations(derived, causes)] if derived else []),
        *([fused.read_text(encoding="utf-8").strip()] if fused.exists() else []),
    ]
    return "\n\n".join(parts) + "\n"


HOW = """Each contender is a process of its own. All have the same data in float64 and the same {threads} threads; their
results are compared with the reference before anything is timed, and they take turns, round by round; short calls go on
for 30 ms in each turn before they are counted. *First* is the first result from nothing but the data and an imported
package: building, deriving, compiling, running. *Steady* is the median of later calls. A ratio is the median of the
ratios of the rounds. *Peak RSS* is of the whole process after its first result, its packages included. A peer that
gives no result says why."""

PAGES = """Results of 100 MB and more are measured twice, for NumPy asks for huge pages, and JAX and PyTorch do only
when `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` and `THP_MEM_ALLOC_ENABLE=1` are set."""

REFERENCES = """The references, in `tests/benchmarks/by_hand.py`, are NumPy by one who knows the structure, with
`out=`, strided views, symmetric products and Cholesky factors where those help, and no threads but those of BLAS.
Networks nobody contracts by hand: their reference is opt_einsum along the path that its thorough search finds."""

REPEAT = """```sh
pip install -e ".[peers]"
python tests/benchmarks/peers.py --write      # every row, and this page anew
python tests/benchmarks/peers.py --quick      # the smallest sizes, to see that it works
```"""


def introduction(run: dict[str, Any]) -> str:
    machine = run["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    quick = ["**A quick run: the smallest sizes, in few rounds. Its figures are not to be relied on.**"]
    paragraphs = [
        f"""What the library costs beside the best NumPy that we can write by hand, and beside its peers. This page is
        generated by `tests/benchmarks/peers.py` from [one run](performance/latest.json), of {run["date"]}.""",
        *(quick if run["quick"] else []),
        *run.get("notes", []),
        HOW.format(threads=machine["threads"]),
        PAGES,
        REFERENCES,
        f"""{machine["processor"]}, {machine["cores"]} cores, {show_bytes(machine["memory"])} of memory,
        {machine["system"]}, Python {machine["python"]}. {packages}.""",
    ]
    chart = "![Steady time beside the reference, row by row](performance/chart.svg)"
    return "\n\n".join(["# Performance", *map(flow, paragraphs), REPEAT, chart])


def flow(text: str) -> str:
    return fill(" ".join(text.split()), 119, break_long_words=False, break_on_hyphens=False)


def is_einsum(row: Row) -> bool:
    return row["workload"].startswith(("einsum-", "network-")) and row["workload"] != "einsum-overhead"


def in_all(rows: Sequence[Row]) -> str:
    """How many rows reach what they should, and the geometric means that einsums are judged by."""
    found = [verdict(row) for row in rows]
    within = sum(
        v.beside_hand is not None and v.beside_hand <= row["target"] for v, row in zip(found, rows, strict=True)
    )
    first = sum(v.beside_hand is not None and (v.ahead is None or v.ahead >= 1) for v in found)
    text = f"Of {len(rows)} rows, {within} are within their target beside the reference; no peer is faster in {first}."
    einsums = [verdict(row) for row in rows if is_einsum(row)]
    hand = [v.beside_hand for v in einsums if v.beside_hand is not None]
    ahead = [v.ahead for v in einsums if v.ahead is not None]
    if hand and ahead:
        text += f""" In the geometric mean over the einsums, the library takes {geometric_mean(hand):.3g} times as long
        as the reference, and the best peer of each row {geometric_mean(ahead):.3g} times as long as the library."""
    return flow(text)


def summary(rows: Sequence[Row]) -> str:
    text = [
        "## Summary",
        "",
        in_all(rows),
        "",
        "| workload | size | × by hand | target | best peer | times ahead of it | |",
        "|---|---|--:|--:|---|--:|---|",
    ]
    for row in rows:
        found = verdict(row)
        cells = (
            f"[{row['title']}](#{row['workload']})",
            heading(row),
            number(found.beside_hand),
            f"≤ {row['target']:g}",
            found.best_peer or "none has a result",
            number(found.ahead),
            f"**{'; '.join(found.missed)}**" if found.missed else "✓",
        )
        text.append(table_row(cells))
    return "\n".join(text)


DERIVATIONS = """Nothing is run. For tensordsl the formula is built, derived and planned; for JAX traced and compiled,
with empty caches; for tensorgrad derived and simplified. *Cold* is the first time in a process, *warm* the median of
later times, of symbols that nothing was derived of before."""


def derivations(rows: Sequence[Row], causes: dict[str, str]) -> str:
    """One table of all: the first derivation of a process, and later ones of fresh symbols."""
    text = [
        '<a id="derive"></a>',
        "",
        "## Derive, simplify and plan",
        "",
        flow(DERIVATIONS),
        "",
        "| | size | tensordsl cold | warm | jax cold | warm | tensorgrad cold | warm | |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        times = []
        for name in (OURS, "jax", "tensorgrad"):
            figures = row["results"].get(name, {})
            times += [show_time(figures.get("first")), show_time(figures.get("median"))]
        missed = verdict(row).missed
        verdicts = f"**{'; '.join(missed)}**" if missed else "✓"
        text.append(table_row((row["title"], row["sizes"], *times, verdicts)))
    if "derive" in causes:
        text += ["", causes["derive"].strip()]
    return "\n".join(text)


def workload(rows: Sequence[Row], causes: dict[str, str]) -> str:
    first = rows[0]
    text = [f'<a id="{first["workload"]}"></a>', "", f"## {first['title'][0].upper()}{first['title'][1:]}"]
    for row in rows:
        missed = verdict(row).missed
        text += ["", f"{heading(row)}{': **' + '; '.join(missed) + '**' if missed else ''}", ""]
        text += ["| | first | steady | × by hand | × tensordsl | peak RSS |", "|---|--:|--:|--:|--:|--:|"]
        text += [table_row(cells) for cells in lines(row)]
    if (cause := causes.get(first["workload"])) is not None:
        text += ["", cause.strip()]
    elif missing := [row for row in rows if verdict(row).missed]:
        text += ["", f"*The cause is not known yet: {'; '.join(map(spread, missing))}.*"]
    return "\n".join(text)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


# --------------------------------------------------------------------------------------------------- chart

LEFT, WIDTH, LINE = 420, 560, 18
COLOURS = {OURS: "#c0392b", "best peer": "#2c6fbb", "other peers": "#b8c4d0"}


def chart(rows: Sequence[Row]) -> str:
    """A line for each row; along it, everyone's time beside the reference's, or the library's where there is none."""
    lowest, highest = -1, 3  # decades
    scale = WIDTH / (highest - lowest)

    def across(ratio: float) -> float:
        return LEFT + (min(max(math.log10(ratio), lowest), highest) - lowest) * scale

    height = LINE * (len(rows) + 4)
    size = f'width="{LEFT + WIDTH + 20}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect {size} fill="white"/>',
    ]
    for decade in range(lowest, highest + 1):
        x, colour = across(10.0**decade), "#555" if decade == 0 else "#ddd"
        parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{1.5 * LINE}" y2="{height}" stroke="{colour}"/>')
        parts.append(f'<text x="{x:.0f}" y="{LINE}" text-anchor="middle">{10.0**decade:g} ×</text>')
    for position, (kind, colour) in enumerate(COLOURS.items()):
        parts.append(f'<text x="10" y="{LINE * (position + 1)}" fill="{colour}">● {kind}</text>')
    for position, row in enumerate(rows):
        y = LINE * (position + 3.5)
        name = escape(f"{row['title']}, {heading(row)}".replace("`", ""))
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{name}</text>')
        parts += [dot(across(ratio), y, name, kind) for name, kind, ratio in dots(row)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def dots(row: Row) -> Iterator[tuple[str, str, float]]:
    """Name, kind and ratio of everyone with a result; what is drawn last lies on top."""
    base = REFERENCE if "median" in row["results"].get(REFERENCE, {}) else OURS
    best = verdict(row).best_peer
    kinds = {name: OURS if name == OURS else "best peer" if name == best else "other peers" for name in row["results"]}
    for name in sorted(kinds, key=lambda name: ["other peers", "best peer", OURS].index(kinds[name])):
        ratio = beside(row, name, base)
        if name != REFERENCE and ratio is not None:
            yield name, kinds[name], ratio


def dot(x: float, y: float, name: str, kind: str) -> str:
    radius = 3 if kind == "other peers" else 5
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{COLOURS[kind]}"><title>{escape(name)}</title></circle>'
    )
