"""The picture of a plan: its table, its drawing, and what they say of blocks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import tensordsl as td
from tensordsl.program import build, picture
from tensordsl.program.choices import duration, seconds
from tensordsl.program.table import percent

k, m = td.dims("k m")
A, X, x, v, y = (
    td.matrix("A", k, k), td.matrix("X", m, k), td.vector("x", k), td.vector("v", k), td.vector("y", m)
)  # fmt: skip
FLAGSHIP = td.jacobian(A * td.outer(x, x), x)
ACTION = td.jvp(A * td.outer(x, x), x, v)

# What programs are made of: products, solutions, slices, selections, sums, several results, numbers.
EXPRESSIONS = {
    "flagship": FLAGSHIP,
    "action": ACTION,
    "sum of a chain": td.sum(A * td.exp(td.outer(x, v))),
    "column sums": td.sum(A * td.exp(td.outer(x, v)), axis=0),
    "several": (td.sum(td.exp(A @ x)), td.grad(td.sum(td.exp(A @ x)), x)),
    "gram": X.T @ td.diag(td.exp(y)) @ X,
    "solve": td.linalg.solve(A, x) @ td.linalg.inv(A),
    "slices": A[1:, :] @ x + x[0] * x[1:],
    "selections": td.vech(A) * 2,
    "kron": td.kron(A, X),
    "ones": td.ones(k, m),
    "number": td.sum(td.ones(k)),
    "constant": td.constant([1.0, 2.0, 3.0]) * 2,
    "argument": x,
    "keyword": td.sin(td.vector("lambda", k)),
}
each_expression = pytest.mark.parametrize("e", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, whatever the machine has."""
    monkeypatch.setattr(build, "thread_count", lambda: 2)


def sizes_of(e: td.Expr | tuple[td.Expr, ...], size: int) -> dict[str, int]:
    parts = e if isinstance(e, tuple) else (e,)
    return {d.name: size for part in parts for d in part.dims}


# --- the table ------------------------------------------------------------------------------------------------------


def test_a_table(in_blocks: None) -> None:
    assert str(td.plan(ACTION, k=1000)).splitlines() == [
        "k = 1000",
        "step        labels     instruction                                flops  bytes  share",
        "─" * 85,
        "stack       i,i->ji    t0 = np.concatenate((x, v)).reshape(2, k)      0  32 kB   0.3%",
        "stack       i,i->ji    t1 = np.concatenate((v, x)).reshape(2, k)      0  32 kB   0.3%",
        "blocks      along k    65 rows at a time, 2 threads                  5M  16 MB    99%",
        "  contract  ij,ik->jk  t2 = t0.T @ t1                                4M",
        "  contract  ij,ij->ij  t3 = A * t2                                   1M",
        "─" * 85,
        "5M flops, 16.1 MB moved, 9.07 MB at the peak, 8 MB of result",
    ]


@each_expression
@pytest.mark.parametrize("size", [3, 700])
def test_every_table_says_what_is_computed(e: td.Expr, size: int) -> None:
    plan = td.plan(e, **sizes_of(e, size))
    text = str(plan)
    for storage in ("in_blocks", "np.empty", "lo:hi", "out=", "chunk"):
        assert storage not in text
    rows = plan.rows()
    assert sum(row.share for row in rows) == pytest.approx(1, abs=0.01) or not rows
    assert all(line == line.rstrip() for line in text.splitlines())
    # A name is made before it is read, and by one step unless that writes into it.
    known = set(plan.program.arguments) | set(plan.program.constants) | {"lambda_"}
    for step in (inner for row in rows for inner in (row.body or (row,))):
        arrays = {name for name in step.reads if re.fullmatch(r"t\d+", name)}
        assert arrays <= known
        assert step.makes not in known or step.step.writes
        known.add(step.makes)
    assert {register.name for register in plan.program.outputs} <= known


def test_sums_over_blocks_go_by_one_name(in_blocks: None) -> None:
    plan = td.plan(EXPRESSIONS["column sums"], k=1000)
    (row,) = plan.rows()
    assert row.body[-1].makes == plan.program.outputs[0].name
    assert any(len(step.targets) > 1 or step.kind == "allocate" for step in plan.steps)  # the parts of each thread


def test_shares() -> None:
    plan = td.plan(X.T @ (X @ td.exp(x)), m=2000, k=1000)
    assert seconds(plan.steps) == pytest.approx(sum(map(duration, plan.steps)))
    shares = [row.share for row in plan.rows()]
    assert shares[1] == shares[2] > 100 * shares[0] > 0
    assert [percent(s) for s in (0, 1e-6, 0.0123, 0.0994, 0.0996, 0.37, 1)] == [
        "", "<0.1%", "1.2%", "9.9%", "10%", "37%", "100%",
    ]  # fmt: skip


def test_one_row_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "thread_count", lambda: 1)
    *_, last = td.plan(ACTION, k=10**6).rows()
    assert (last.text, last.labels) == ("1 row at a time", "along k")
    assert td.plan(td.exp(td.vector("z", k + 1)), k=10**6).rows()[0].labels == "along k + 1"


def test_a_notebook_shows_the_table() -> None:
    shown = td.plan(ACTION, k=10)._repr_html_()
    assert shown.startswith("<pre>k = 10\n")
    assert "i,j-&gt;ij" in shown


# --- the drawing ----------------------------------------------------------------------------------------------------


@each_expression
@pytest.mark.parametrize("size", [3, 700])
def test_every_arrow_joins_nodes(e: td.Expr, size: int) -> None:
    plan = td.plan(e, **sizes_of(e, size))
    text = plan.to_dot()
    nodes = re.findall(r"^ +(\w+) \[label=", text, re.MULTILINE)
    assert len(nodes) == len(set(nodes))
    arrows = re.findall(r"(\w+) -> (\w+)", re.sub(r'"(\\.|[^"\\])*"', "", text))
    assert {name for arrow in arrows for name in arrow} <= set(nodes)
    results = [name for name in nodes if name.startswith("result")]
    assert len(results) == len(plan.program.outputs)
    assert {target for _, target in arrows} >= set(results)
    data = {name for name in nodes if name.startswith("data")}
    assert {source for source, _ in arrows} >= data
    assert text.count("{") == text.count("}")
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tcanon"], input=text.encode(), check=True, capture_output=True)


def test_blocks_stand_in_a_frame(in_blocks: None) -> None:
    text = td.plan(FLAGSHIP, k=400).to_dot()
    assert "subgraph cluster_step1 {" in text
    assert r'label="along k, 200 rows at a time, 2 threads\l640k flops' in text
    assert '"iji->ij\\"' in text.replace('\\"iji', '"iji')  # quotes are escaped
    assert re.search(r'-> result0 \[label=" 512 MB", penwidth=2\.5\]', text)
    assert picture.shade(0) == "#ffffff"
    assert picture.shade(1) != picture.shade(0.5) != picture.shade(0)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_pictures(tmp_path: Path) -> None:
    plan = td.plan(FLAGSHIP, k=400)
    assert plan.to_svg().rstrip().endswith("</svg>")
    plan.save(tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    plan.save(str(tmp_path / "plan.svg"))
    assert "t0 = A * x" in (tmp_path / "plan.svg").read_text(encoding="utf-8")
    with pytest.raises(td.UnsupportedError, match=r"Graphviz cannot draw this plan as svg: .*plan\.to_dot"):
        picture.picture("digraph {", "svg")


def test_the_source_needs_no_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    plan = td.plan(ACTION, k=10)
    plan.save(tmp_path / "plan.dot")
    assert (tmp_path / "plan.dot").read_text(encoding="utf-8") == plan.to_dot()
    with pytest.raises(td.UnsupportedError, match=r"`dot` is not installed.*plan\.save\('plan\.dot'\)"):
        plan.to_svg()
    with pytest.raises(td.UnsupportedError, match="drawn as svg, png, pdf, dot, not as 'jpg'"):
        plan.save(tmp_path / "plan.jpg")
    with pytest.raises(td.UnsupportedError, match="not as 'nothing'"):
        plan.save(tmp_path / "plan")
    assert [found.name for found in tmp_path.iterdir()] == ["plan.dot"]
