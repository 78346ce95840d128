"""The rows of a plan, for people: what each step computes, and its share of the cost.

A row says what is computed, not where it is stored: storage for the results of blocks, and the parts that threads add
up, have no rows of their own, and pieces of arrays go by the names of the arrays. `Program.source` says both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tensordsl.errors import amount
from tensordsl.labels import Label
from tensordsl.program.blocks import Blocks
from tensordsl.program.choices import duration
from tensordsl.program.instructions import Instruction, Program
from tensordsl.program.kernels import Empty, Index
from tensordsl.program.source import label_sizes

UNITS = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
TITLES = ("step", "labels", "instruction", "flops", "bytes", "share")
WORDS = 3  # columns of words; the others are numbers
PIECE = "lo:hi"  # of an axis, in the source of blocks


@dataclass(frozen=True)
class Row:
    """One step: what it reads and makes, by name, and its share of the cost of the plan, between 0 and 1."""

    step: Instruction
    text: str
    reads: tuple[str, ...]
    makes: str
    share: float
    body: tuple[Row, ...] = ()  # of blocks

    @property
    def kind(self) -> str:
        return self.step.kind

    @property
    def labels(self) -> str:
        kernel = self.step.kernel
        if not isinstance(kernel, Blocks):
            return kernel.title
        extent = kernel.extent
        return f"along {extent[1:-1] if extent.startswith('(') else extent}"  # a sum is in parentheses

    def cells(self, within: bool = False) -> tuple[str, ...]:
        """The row as texts under `TITLES`; `within` blocks, arrays stay in the cache and the share is that of all."""
        free = self.step.kernel.views
        flops = "" if free else count(self.step.flops)
        if within:
            return f"  {self.kind}", self.labels, self.text, flops, "", ""
        return self.kind, self.labels, self.text, flops, "" if free else amount(self.step.bytes), percent(self.share)


def rows(program: Program) -> list[Row]:
    """The steps of a program that compute something."""
    total = sum(map(duration, program.instructions)) or 1.0
    blocks = [step.kernel for step in program.instructions if isinstance(step.kernel, Blocks)]
    parts = {register.name for kernel in blocks for _, register in kernel.totals}
    sums = {step.operands[0].name: step.target.name for step in program.instructions if step.operands}
    found = []
    for step in program.instructions:
        stores = isinstance(step.kernel, Empty) or step.target.name in parts
        if isinstance(step.kernel, Blocks):
            body = tuple(_body(step.kernel, sums))
            reads = tuple(dict.fromkeys(register.name for register in step.operands))
            found.append(Row(step, manner(step.kernel), reads, step.target.name, duration(step) / total, body))
        elif not stores and not any(operand.name in parts for operand in step.operands):
            found.append(_row(step, {}, duration(step) / total))
    return found


def _row(step: Instruction, names: Mapping[str, str], share: float, sizes: Mapping[Label, str] | None = None) -> Row:
    """The row of one step whose arrays go by other `names`."""
    reads = tuple(names.get(register.name, register.name) for register in step.operands)
    makes = names.get(step.target.name, step.target.name)
    texts = {label: str(size) for label, size in label_sizes(step).items()} | dict(sizes or {})
    value = step.kernel.source(reads, texts.__getitem__)
    return Row(step, value if step.writes else f"{makes} = {value}", reads, makes, share)


def _body(kernel: Blocks, sums: Mapping[str, str]) -> Iterator[Row]:
    """The rows of what is done in blocks. What a thread has added up goes by the name of the sum over all."""
    names = {name: register.name for name, register, _ in kernel.cuts}
    totals = {name: sums.get(register.name, register.name) for name, register in kernel.totals}
    adding = [step for step in kernel.body if step.writes and step.target.name in totals]
    names |= {step.operands[1].name: totals[step.target.name] for step in adding}
    for step, label in zip(kernel.body, kernel.labels, strict=True):
        if isinstance(step.kernel, Index) and PIECE in step.kernel.keys:
            names[step.target.name] = names.get(step.operands[0].name, step.operands[0].name)
        elif step not in adding:
            yield _row(step, names, 0.0, {label: kernel.extent})


def manner(kernel: Blocks) -> str:
    """How blocks are gone through: 131 rows at a time, 2 threads."""
    at_once = f"{kernel.rows} row{'s' * (kernel.rows != 1)} at a time"
    return f"{at_once}, {kernel.chunks} threads" if kernel.chunks > 1 else at_once


def written(found: Sequence[Row]) -> list[tuple[tuple[str, ...], bool]]:
    """All rows as texts, those of blocks below them, and whether they stand within blocks."""
    lines: list[tuple[tuple[str, ...], bool]] = []
    for row in found:
        lines.append((row.cells(), False))
        lines += [(inner.cells(within=True), True) for inner in row.body]
    return lines


def count(number: int) -> str:
    """A count as a person reads it: 1.28M."""
    for limit, unit in UNITS:
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return str(number)


def percent(share: float) -> str:
    """A share as a person reads it: 37%, 1.2%."""
    if share <= 0:
        return ""
    if share < 0.0005:
        return "<0.1%"
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"
