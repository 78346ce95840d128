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


def beside(row: Row, name: str, other: str) -> float | None:
    """How many times longer `name` takes than `other`: the median over the rounds, in which both had a turn."""
    ours, theirs = (row["results"].get(side, {}).get("seconds", []) for side in (name, other))
    if row["symbolic"]:
        ours, theirs = ours and [median(ours)], theirs and [median(theirs)]
    ratios = [our / their for our, their in zip(ours, theirs, strict=False)]
    return median(ratios) if ratios else None


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
        missed.append(f"behind {best}" if ahead < 1 else f"less than {row['ahead']:g} times ahead")
    cold = first_beside(row)
    if row["symbolic"] and cold is not None and cold < row["ahead"]:
        missed.append(f"{cold:.2g} times ahead when cold")
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


def write(run: dict[str, Any]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(run, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / "latest.json").write_text(text, encoding="utf-8")
    (FOLDER / f"{run['date']}.json").write_text(text, encoding="utf-8")
    (FOLDER / "chart.svg").write_text(chart(run["rows"]), encoding="utf-8")
    PAGE.write_text(page(run), encoding="utf-8")


def page(run: dict[str, Any]) -> str:
    causes = tomllib.loads(CAUSES.read_text(encoding="utf-8"))
    fused = FOLDER / "fused.md"
    parts = [
        introduction(run),
        summary(run["rows"]),
        *(workload(list(rows), causes) for _, rows in groupby(run["rows"], key=lambda row: row["workload"])),
        *([fused.read_text(encoding="utf-8").strip()] if fused.exists() else []),
    ]
    return "\n\n".join(parts) + "\n"


def introduction(run: dict[str, Any]) -> str:
    machine = run["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    quick = (
        "\n\n**A quick run: the smallest sizes, in few rounds. Its figures are not to be relied on.**"
        if run["quick"]
        else ""
    )
    return f"""# Performance

What the library costs beside the best NumPy that we can write by hand, and beside its peers. This page is generated by
`tests/benchmarks/peers.py` from [one run](performance/latest.json), of {run["date"]}; the formulas are in
`tests/benchmarks/workloads.py`, the references in `tests/benchmarks/by_hand.py`.{quick}

Each contender is a process of its own. All have the same data in float64 and the same {machine["threads"]} threads;
their results are compared with the reference before anything is timed, and they take turns, round by round. *First* is
the first result from nothing but the data and an imported package: building, deriving, compiling, running. *Steady* is
the median of later calls. A ratio is the median of the ratios of the rounds. *Peak RSS* is of the whole process after
its first result, its packages included. Results of 100 MB and more are measured twice, for NumPy asks the system for
huge pages, and JAX and PyTorch do only when `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` and `THP_MEM_ALLOC_ENABLE=1` are
set. A peer that gives no result says why. For a network, which nobody contracts by hand, the reference is opt_einsum
along the path that its thorough search finds.

{machine["processor"]}, {machine["cores"]} cores, {show_bytes(machine["memory"])} of memory, {machine["system"]},
Python {machine["python"]}; {packages}.

```sh
pip install -e ".[peers]"
python tests/benchmarks/peers.py --write      # every row, and this page anew
python tests/benchmarks/peers.py --quick      # the smallest sizes, to see that it works
```

![Steady time beside the reference, row by row](performance/chart.svg)"""


def summary(rows: Sequence[Row]) -> str:
    text = [
        "## Summary",
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
            "–" if row["target"] is None else f"≤ {row['target']:g}",
            found.best_peer or "none has a result",
            number(found.ahead),
            f"**{'; '.join(found.missed)}**" if found.missed else "✓",
        )
        text.append(f"| {' | '.join(escape_cell(cell) for cell in cells)} |")
    einsums = [
        verdict(row)
        for row in rows
        if row["workload"].startswith(("einsum-", "network-")) and "overhead" not in row["workload"]
    ]
    for name, values in (
        ("times the reference", [v.beside_hand for v in einsums]),
        ("times ahead of the best peer", [v.ahead for v in einsums]),
    ):
        known = [value for value in values if value is not None]
        if known:
            text += ["", f"Geometric mean over the einsums: {geometric_mean(known):.3g} {name}."]
    return "\n".join(text)


def workload(rows: Sequence[Row], causes: dict[str, str]) -> str:
    first = rows[0]
    text = [f'<a id="{first["workload"]}"></a>', "", f"## {first['title'][0].upper()}{first['title'][1:]}"]
    for row in rows:
        missed = verdict(row).missed
        text += ["", f"{heading(row)}{': **' + '; '.join(missed) + '**' if missed else ''}", ""]
        text += ["| | first | steady | × by hand | × tensordsl | peak RSS |", "|---|--:|--:|--:|--:|--:|"]
        text += [f"| {' | '.join(map(escape_cell, cells))} |" for cells in lines(row)]
    if (cause := causes.get(first["workload"])) is not None:
        text += ["", cause.strip()]
    elif any(verdict(row).missed for row in rows):
        text += ["", "*The cause is not known yet.*"]
    return "\n".join(text)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def escape_cell(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


# --------------------------------------------------------------------------------------------------- chart

LEFT, WIDTH, LINE = 420, 560, 18
COLOURS = {OURS: "#c0392b", "best peer": "#2c6fbb", "peer": "#b8c4d0"}


def chart(rows: Sequence[Row]) -> str:
    """A line for each row; along it, everyone's time beside the reference's, or the library's where there is none."""
    lowest, highest = -1, 3  # decades
    scale = WIDTH / (highest - lowest)

    def across(ratio: float) -> float:
        return LEFT + (min(max(math.log10(ratio), lowest), highest) - lowest) * scale

    height = LINE * (len(rows) + 3)
    size = f'width="{LEFT + WIDTH + 20}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect {size} fill="white"/>',
    ]
    for decade in range(lowest, highest + 1):
        x, colour = across(10.0**decade), "#555" if decade == 0 else "#ddd"
        parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{1.5 * LINE}" y2="{height}" stroke="{colour}"/>')
        parts.append(f'<text x="{x:.0f}" y="{LINE}" text-anchor="middle">{10.0**decade:g} ×</text>')
    for position, row in enumerate(rows):
        y = LINE * (position + 2.5)
        parts.append(
            f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(row["title"])}, {escape(heading(row))}</text>'
        )
        parts += [dot(across(ratio), y, name, kind) for name, kind, ratio in dots(row)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def dots(row: Row) -> Iterator[tuple[str, str, float]]:
    """Name, kind and ratio of everyone with a result; what is drawn last lies on top."""
    base = REFERENCE if "median" in row["results"].get(REFERENCE, {}) else OURS
    best = verdict(row).best_peer
    kinds = {name: OURS if name == OURS else "best peer" if name == best else "peer" for name in row["results"]}
    for name in sorted(kinds, key=lambda name: ["peer", "best peer", OURS].index(kinds[name])):
        ratio = beside(row, name, base)
        if name != REFERENCE and ratio is not None:
            yield name, kinds[name], ratio


def dot(x: float, y: float, name: str, kind: str) -> str:
    radius = 3 if kind == "peer" else 5
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{COLOURS[kind]}"><title>{escape(name)}</title></circle>'
    )
