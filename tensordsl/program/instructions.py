"""The parts of a program: registers, instructions, the layout of structured terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tensordsl.dims import AnySize
from tensordsl.expr import Number, Select
from tensordsl.labels import Groups, Label
from tensordsl.program.kernels import Kernel


@dataclass(frozen=True)
class Register:
    """A named array in a program. A view shares the storage of its `root`."""

    name: str
    sizes: tuple[AnySize, ...]
    root: str
    owned: bool  # allocated by the program, so that it may be overwritten once it is dead
    uniform: bool | None = True  # of the dtype that all data have, where they have one; None: a number of any dtype

    @property
    def ndim(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Instruction:
    """One step: the targets are what the kernel makes of the operands, or a target is changed in place by it."""

    kernel: Kernel
    targets: tuple[Register, ...]
    operands: tuple[Register, ...]
    flops: int = 0
    bytes: int = 0
    source: str = ""  # as it was written into the program

    @property
    def target(self) -> Register:
        return self.targets[0]

    @property
    def kind(self) -> str:
        """contract, map, apply, reduce, gather, stack, diagonal, view, allocate or blocks."""
        return self.kernel.kind

    @property
    def writes(self) -> bool:
        """Whether the target is changed in place."""
        return self.kernel.writes

    @property
    def labels(self) -> str:
        """What is done to the axes, for people."""
        return self.kernel.title

    @property
    def text(self) -> str:
        """The line of the program."""
        return self.source if self.writes or not self.targets else f"{self.target.name} = {self.source}"


@dataclass(frozen=True)
class Term:
    """A structured value: coefficient * core, its axes the `labels`, spread over the `output` axes.

    A label of `output` that is not in `labels` is ones; one that stands twice is a δ; one in `scatter` stands for the
    positions start + step*row of the slice it names.
    """

    core: Register | None  # None for the number one
    labels: tuple[Label, ...]
    coefficient: Number
    output: Groups
    sizes: Mapping[Label, AnySize]
    scatter: Mapping[Label, tuple[Select, Label | None]] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[Label, ...]:
        """The labels along which the term has entries: those of its output, rows of slices in place of columns."""
        found: dict[Label, None] = {}
        for group in self.output:
            for label in group:
                if label in self.scatter:
                    row = self.scatter[label][1]
                    if row is not None:
                        found[row] = None
                else:
                    found[label] = None
        return tuple(found)

    @property
    def structured(self) -> bool:
        labels = [label for group in self.output for label in group]
        return bool(self.scatter) or len(set(labels)) < len(labels)


@dataclass(frozen=True)
class Slot:
    """A view of the workspace: an array that a function keeps between its calls, in a shape."""

    name: str
    base: int
    shape: tuple[int, ...]
    chunks: int = 1  # parts of the array along the first axis, each for a thread: they lie apart whatever the shape is

    def of(self, base: Any) -> Any:
        """The view of an array."""
        each = len(base) // self.chunks
        parts = base[: each * self.chunks].reshape(self.chunks, each)
        return parts[:, : prod(self.shape) // self.chunks].reshape(self.shape)


@dataclass(frozen=True)
class Program:
    """Instructions in order, and the register of each result."""

    arguments: tuple[str, ...]  # symbols, by name
    parameters: tuple[str, ...]  # dimensions that no argument's shape shows
    preamble: tuple[str, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[Register, ...]
    sizes: Mapping[str, int]  # the sizes that the costs are for
    assumed: tuple[str, ...]  # those of them that were assumed, not given
    source: str
    constants: Mapping[str, object]
    routines: Mapping[str, Callable[..., object]]  # functions that the source calls by name
    peak_bytes: int
    result_bytes: int
    bases: tuple[int, ...] = ()  # entries of each array of the workspace
    slots: tuple[Slot, ...] = ()  # the workspace as the source is handed it

    @property
    def flops(self) -> int:
        return sum(instruction.flops for instruction in self.instructions)

    @property
    def bytes(self) -> int:
        return sum(instruction.bytes for instruction in self.instructions)
