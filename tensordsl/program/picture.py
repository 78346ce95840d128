"""The picture of a plan, in the language of Graphviz: data, steps and results, with what goes between them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from math import log10, prod

from tensordsl.dims import evaluate
from tensordsl.errors import UnsupportedError, amount, show_shape
from tensordsl.program.blocks import Blocks
from tensordsl.program.instructions import Program, Register
from tensordsl.program.table import Row, count, manner, percent, rows

HEAD = """digraph plan {
    rankdir=TB; nodesep=0.3; ranksep=0.4; bgcolor=white; fontname="Helvetica"; fontsize=11;
    node [shape=box, style="rounded,filled", fillcolor=white, color="#8a8a8a", fontname="Helvetica", fontsize=11];
    edge [color="#5f6b7a", fontname="Helvetica", fontsize=9, fontcolor="#5f6b7a", arrowsize=0.7];"""
DATA = 'shape=ellipse, height=0.4, margin="0.04,0.02", style=filled, fillcolor="#e3eefb", color="#6b93c4"'
RESULT = (
    'shape=ellipse, height=0.4, margin="0.04,0.02", style=filled, fillcolor="#e2f3e4", color="#5f9e68", penwidth=1.4'
)
VIEW = 'style="rounded,dashed", color="#b0b0b0", fontcolor="#5f5f5f"'
FRAME = 'style="rounded,filled"; color="#b0a070"; labeljust=l; labelloc=b; margin=14'
FORMATS = ("svg", "png", "pdf", "dot")


def dot(program: Program, heading: str) -> str:
    """The source of the picture of a program."""
    return "\n".join([HEAD, f'    label="{_quoted(heading)}"; labelloc=t;', *Drawing(program).lines(), "}"]) + "\n"


def picture(text: str, format: str) -> bytes:
    """A picture in one of `FORMATS`, as the `dot` of Graphviz lays it out: `UnsupportedError` where that is missing."""
    if format not in FORMATS:
        raise UnsupportedError(f"A plan is drawn as {', '.join(FORMATS)}, not as {format or 'nothing'!r}.")
    if format == "dot":
        return text.encode()
    program = shutil.which("dot")
    if program is None:
        raise UnsupportedError(
            f"A picture as {format} is drawn by Graphviz, whose program `dot` is not installed. Install Graphviz (on "
            "Debian `apt install graphviz`, with Homebrew `brew install graphviz`), or take the source, "
            "plan.save('plan.dot'), which other programs and web pages draw."
        )
    done = subprocess.run([program, f"-T{format}"], input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise UnsupportedError(
            f"Graphviz cannot draw this plan as {format}: {done.stderr.decode(errors='replace').strip()}. "
            "Take the source, plan.to_dot()."
        )
    return done.stdout


class Drawing:
    """The nodes and edges of a program: an edge from who made an array last to whoever reads it."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._rows = rows(program)
        self._makers: dict[str, str] = {}  # the node that made, or changed, an array last
        self._registers = _registers(program)
        self._largest = max((self._bytes(register) for register in self._registers.values()), default=1)

    def lines(self) -> Iterator[str]:
        """The lines of the picture."""
        edges: list[str] = []
        for place, row in enumerate(self._rows):
            name = f"step{place}"
            for source in self._new_data(row):
                yield f"    {source}"
            if not row.body:
                yield f"    {self._step(name, row, edges)}"
                continue
            assert isinstance(row.step.kernel, Blocks)
            lines = (f"{row.labels}, {manner(row.step.kernel)}", cost(row))
            title = "".join(f"{_quoted(line)}\\l" for line in lines)
            yield f"    subgraph cluster_{name} {{"
            yield f'        label="{title}"; fillcolor="{shade(row.share)}"; {FRAME};'
            for inner, step in enumerate(row.body):
                yield f"        {self._step(f'{name}_{inner}', step, edges, within=True)}"
            yield "    }"
        yield from self._results(edges)
        yield from (f"    {edge}" for edge in edges)

    def _step(self, name: str, row: Row, edges: list[str], within: bool = False) -> str:
        """The node of a step, its edges noted. Within blocks the frame has the colour of the cost."""
        edges += [self._edge(operand, name) for operand in dict.fromkeys(row.reads) if operand in self._makers]
        self._makers[row.makes] = name
        if row.step.kernel.views:
            return f'{name} [label="{_quoted(row.text)}", {VIEW}];'
        beside = [row.labels, f"{count(row.step.flops)} flops" if within else cost(row)]
        fill = "white" if within else shade(row.share)
        label = f"{_quoted(row.text)}\\n{_quoted('  ·  '.join(filter(None, beside)))}"
        return f'{name} [label="{label}", fillcolor="{fill}"];'

    def _new_data(self, row: Row) -> Iterator[str]:
        """Nodes for the data that a row is the first to read."""
        for name in (read for step in (row, *row.body) for read in step.reads):
            register = self._registers.get(name)
            if name in self._makers or register is None or register.owned or not _is_array(register):
                continue
            if any(step.makes == name for step in row.body):
                continue
            self._makers[name] = f"data{len(self._makers)}"
            shape = show_shape(register.sizes) if register.sizes else "a number"
            title = "constant" if name in self._program.constants else name
            yield f'{self._makers[name]} [label="{_quoted(title)}\\n{_quoted(shape)}", {DATA}];'

    def _results(self, edges: list[str]) -> Iterator[str]:
        """Nodes for what the program returns."""
        several = len(self._program.outputs) > 1
        for place, register in enumerate(self._program.outputs):
            title = f"result {place + 1}" if several else "result"
            shape = show_shape(register.sizes) if register.sizes else "a number"
            yield f'    result{place} [label="{title}\\n{_quoted(shape)}", {RESULT}];'
            if register.name in self._makers:
                edges.append(self._edge(register.name, f"result{place}"))

    def _edge(self, operand: str, target: str) -> str:
        """An arrow as wide as the array that goes along it is large, on a scale of powers of ten."""
        size = self._bytes(self._registers[operand])
        width = 0.5 + 2 * log10(1 + size) / log10(1 + max(self._largest, 9))
        label = f'label=" {amount(size)}", ' if self._registers[operand].sizes else ""
        return f"{self._makers[operand]} -> {target} [{label}penwidth={width:.1f}];"

    def _bytes(self, register: Register) -> int:
        return 8 * prod(evaluate(size, self._program.sizes) for size in register.sizes)


def cost(row: Row) -> str:
    """What a step costs: flops, bytes and share."""
    share = percent(row.share)
    parts = [f"{count(row.step.flops)} flops" if row.step.flops else "", amount(row.step.bytes), share]
    return "  ·  ".join(filter(None, parts))


def shade(share: float) -> str:
    """White for what costs nothing, amber for what costs all."""
    ends = ((255, 255, 255), (250, 196, 112))
    return "#" + "".join(f"{round(low + (high - low) * share):02x}" for low, high in zip(*ends, strict=True))


def _registers(program: Program) -> Mapping[str, Register]:
    """All arrays by name; of those that blocks make and use up, a piece."""
    found: dict[str, Register] = {}
    for step in program.instructions:
        inner: Sequence[Register] = ()
        if isinstance(step.kernel, Blocks):
            inner = [register for each in step.kernel.body for register in (*each.targets, *each.operands)]
        for register in (*step.targets, *step.operands, *inner):
            found.setdefault(register.name, register)
    return found


def _is_array(register: Register) -> bool:
    """Whether a register is data, and not a number that the source says."""
    return bool(register.sizes) or register.uniform is not None


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
