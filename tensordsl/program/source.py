"""Instructions to source: where each array is stored, when it is let go, and the text.

A step writes over an operand that dies in it, or into the workspace that a function keeps between its calls, or into
an array that the caller gives; what is returned is new otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import NamedTuple

from tensordsl.dims import AnySize
from tensordsl.labels import Label
from tensordsl.program.blocks import Blocks
from tensordsl.program.instructions import Instruction, Register, Slot
from tensordsl.program.kernels import Empty, Full, Labels, Pack, Product, Write

SMALL = 512  # entries up to which a number is not worth a line that lets it go
KEPT = 1 << 13  # entries from which storage is kept between calls: smaller arrays are had faster from the allocator


@dataclass(frozen=True)
class Written:
    """Instructions with their source, the lines of the program, and the entries alive at the peak."""

    instructions: tuple[Instruction, ...]
    lines: tuple[str, ...]
    peak: int


@dataclass
class Piece:
    """What a body of blocks is written into: the scratch of a chunk, cut to the block's length."""

    labels: Labels  # what each instruction calls the label
    chunks: int
    rows: int
    heads: list[str] = field(default_factory=list)


class _Place(NamedTuple):
    """What is known where a step stands: what dies there, and where everything is stored."""

    dying: Sequence[str]
    given: Mapping[str, str]
    roots: set[str]
    storage: dict[str, int | None]  # the array of the workspace that a root is in, None for one of its own
    alive: dict[str, int]
    free: list[int]


def label_sizes(instruction: Instruction) -> dict[Label, AnySize]:
    """The size of each label, read off the registers."""
    kernel = instruction.kernel
    found: dict[Label, AnySize] = {}
    for labels, register in zip(kernel.inputs, instruction.operands, strict=False):
        found.update(zip(labels, register.sizes, strict=True))
    if instruction.targets and not kernel.writes:
        for label, size in zip(kernel.output, instruction.target.sizes, strict=True):
            found.setdefault(label, size)
    return found


class Writer:
    """Writes the source of a program whose arrays all are of one dtype, or, without a dtype, of any.

    Without a dtype nothing is written over and nothing is kept: each step makes an array of its own.
    """

    def __init__(
        self,
        size: Callable[[AnySize], str],
        count: Callable[[Iterable[AnySize]], int],
        fresh: Callable[[], str],
        one_dtype: bool,
    ) -> None:
        self.slots: list[Slot] = []
        self._size, self._count, self._fresh = size, count, fresh
        self._one_dtype = one_dtype
        self._base_entries: list[int] = []  # of each array of the workspace, of which slots are views

    @property
    def entries(self) -> int:
        """The entries of the workspace."""
        return sum(self._base_entries)

    @property
    def bases(self) -> tuple[int, ...]:
        return tuple(self._base_entries)

    def write(
        self,
        instructions: Sequence[Instruction],
        kept: Iterable[Register],
        given: Mapping[str, str],
        piece: Piece | None = None,
        free: list[int] | None = None,
    ) -> Written:
        """The source of instructions of which the registers `kept` are returned; roots in `given` are stored there."""
        free = [] if free is None else free  # arrays of the workspace that hold nothing now
        roots = {register.root for register in kept}
        last: dict[str, int] = {}
        names_of: dict[str, dict[str, None]] = {}
        for place, instruction in enumerate(instructions):
            for register in (*instruction.operands, *instruction.targets):
                last[register.root] = place
            for target in instruction.targets:
                names_of.setdefault(target.root, {})[target.name] = None
        allocated = {target.root for i in instructions for target in i.targets if target.owned}
        storage: dict[str, int | None] = {}  # the array of the workspace that a root is in, None for one of its own
        alive: dict[str, int] = {}
        lines: list[str] = []
        done: list[Instruction] = []
        peak = 0

        placed: str | None = None  # the part of an array that the next step makes its result in
        for place, instruction in enumerate(instructions):
            if placed is not None and instruction.writes:  # what it writes has been made in its place
                placed = None
                done.append(replace(instruction, source=lines[-1]))
                continue
            operand_roots = dict.fromkeys(register.root for register in (*instruction.operands, *instruction.targets))
            dying = [r for r in operand_roots if last[r] == place and r in allocated and r not in roots]
            names = [register.name for register in instruction.operands]
            sizes = self._texts(instruction, piece, place)
            kernel, hidden = instruction.kernel, 0
            if isinstance(kernel, Blocks):
                new, hidden = self._blocks(kernel, free)
                source = new[-1]
            elif (placed := self._place(instructions, place, last)) is not None:
                into = kernel.into(names, sizes.__getitem__, placed)
                assert into is not None
                new, source = [into], into
            elif instruction.writes or not (instruction.target.owned or instruction.target.name in given):
                source = kernel.source(names, sizes.__getitem__)
                new = [source if instruction.writes else f"{instruction.target.name} = {source}"]
            else:
                new = self._stored(
                    instruction, names, sizes, _Place(dying, given, roots, storage, alive, free), piece, place
                )
                source = "; ".join(new).removeprefix(f"{instruction.target.name} = ")
            lines += new
            done.append(replace(instruction, source=source))
            if not isinstance(kernel, Blocks):
                entries = {label: self._count([size]) for label, size in label_sizes(instruction).items()}
                hidden = kernel.hidden(lambda labels: prod(entries[label] for label in labels))  # noqa: B023
                made = not instruction.writes and not kernel.views
                if made and instruction.target.root in given and not writes_into(instruction):
                    hidden += self._count(instruction.target.sizes)  # made first, then copied
            peak = max(peak, sum(alive.values()) + hidden)
            gone: list[str] = []
            for root in dying:
                self._release(storage.pop(root, None), free)
                alive.pop(root, None)
                gone += names_of.get(root, ())
            if gone and any(r.ndim or self._count(r.sizes) > SMALL for r in instruction.operands):
                lines.append(f"del {', '.join(gone)}")
        return Written(tuple(done), tuple(lines), peak)

    def _stored(
        self,
        instruction: Instruction,
        names: Sequence[str],
        sizes: Mapping[Label, str],
        at: _Place,
        piece: Piece | None,
        place: int,
    ) -> list[str]:
        """The lines that make a new array: over an operand that dies, in an array given, in the workspace, or anew."""
        kernel, target = instruction.kernel, instruction.target
        reused = reusable(instruction, at.dying) if self._one_dtype else None
        if reused is not None and target.root in at.roots and at.storage.get(reused.root) is not None:
            reused = None  # what is returned is never storage that is kept
        if reused is not None and target.root not in at.given:
            at.storage[target.root] = at.storage.pop(reused.root, None)
            at.alive[target.root] = at.alive.pop(reused.root, 0)
            if isinstance(kernel, Pack):
                return [f"{target.name} = {reused.name}"]
            return over_lines(instruction, names, sizes, reused.name)
        out = at.given.get(target.root)
        if out is None and target.root not in at.roots:
            out = self._slot(instruction, piece, place, at.free, at.storage)
            base = at.storage.get(target.root)
            matrix = folded_sizes(instruction)
            if base is not None and matrix is not None and isinstance(kernel, Product):
                at.alive[target.root] = 0
                made = self._view(base, tuple(map(self._count, matrix)), 1).name
                return [kernel.into_folded(names, sizes.__getitem__, made), f"{target.name} = {out}"]
        at.alive[target.root] = 0 if out is not None else self._count(target.sizes)
        if out is not None:
            return over_lines(instruction, names, sizes, out)
        return [f"{target.name} = {kernel.source(names, sizes.__getitem__)}"]

    def _place(self, instructions: Sequence[Instruction], place: int, last: Mapping[str, int]) -> str | None:
        """The part of an array that the next step writes just this step's result into, where it can be made there."""
        step = instructions[place]
        following = instructions[place + 1] if place + 1 < len(instructions) else None
        if step.writes or following is None or not isinstance(following.kernel, Write) or not self._one_dtype:
            return None
        target = step.target
        serves = following.operands[1:] == (target,) and last[target.root] == place + 1
        if not serves or not following.kernel.takes_in_place:
            return None
        if not target.uniform or not target.owned or not step.kernel.entrywise or not writes_into(step):
            return None
        return following.kernel.part(following.target.name)

    def _texts(self, instruction: Instruction, piece: Piece | None, place: int) -> dict[Label, str]:
        """The source of the size of each label."""
        texts = {label: self._size(size) for label, size in label_sizes(instruction).items()}
        if piece is not None:
            texts[piece.labels[place]] = "(hi - lo)"
        return texts

    # --- the workspace --------------------------------------------------------------------------------------------

    def _slot(
        self,
        instruction: Instruction,
        piece: Piece | None,
        place: int,
        free: list[int],
        storage: dict[str, int | None],
    ) -> str | None:
        """Where the workspace holds the result of a step; None where it is better had from the allocator."""
        target = instruction.target
        if (
            not self._one_dtype
            or not target.uniform
            or self._count(target.sizes) < KEPT
            or not (writes_into(instruction) or (piece is None and folded_sizes(instruction) is not None))
        ):
            return None
        sizes = tuple(self._count([size]) for size in target.sizes)
        shape = sizes if piece is None else (piece.chunks, *sizes)
        entries = prod(shape)
        fitting = [base for base in free if self._base_entries[base] >= entries]
        if fitting:
            base = min(fitting, key=self._base_entries.__getitem__)
        elif free:
            base = max(free, key=self._base_entries.__getitem__)
            self._base_entries[base] = entries
        else:
            base = len(self._base_entries)
            self._base_entries.append(entries)
        if base in free:
            free.remove(base)
        storage[target.root] = base
        found = self._view(base, shape, 1 if piece is None else piece.chunks)
        if piece is None:
            return found.name
        head = f"{found.name}_ = {found.name}[chunk]"
        if head not in piece.heads:
            piece.heads.append(head)
        labels, label = instruction.kernel.output, piece.labels[place]
        return f"{found.name}_[{':, ' * labels.index(label)}:hi - lo]" if label in labels else f"{found.name}_"

    def _view(self, base: int, shape: tuple[int, ...], chunks: int) -> Slot:
        """An array of the workspace in a shape."""
        same = (slot for slot in self.slots if (slot.base, slot.shape, slot.chunks) == (base, shape, chunks))
        found = next(same, None)
        if found is None:
            found = Slot(self._fresh(), base, shape, chunks)
            self.slots.append(found)
        return found

    def _release(self, base: int | None, free: list[int]) -> None:
        if base is not None:
            free.append(base)

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _blocks(self, kernel: Blocks, free: list[int]) -> tuple[list[str], int]:
        """The lines that do a body in blocks; and the entries that they hold beside the workspace."""
        piece = Piece(kernel.labels, kernel.chunks, kernel.rows)
        given = {name: name for name, _, _ in kernel.cuts}
        written = self.write(kernel.body, (), given, piece, free)
        heads = [*piece.heads, *(f"{name} = {parts.name}[chunk:chunk + 1]" for name, parts in kernel.totals)]
        cuts = [f"{name} = {register.name}[{_cut(axes)}]" for name, register, axes in kernel.cuts]
        lines = [
            f"def {kernel.name}(start, stop, chunk):",
            *(f"    {line}" for line in heads),
            f"    for lo in range(start, stop, {kernel.rows}):",
            f"        hi = min(lo + {kernel.rows}, stop)",
            *(f"        {line}" for line in (*cuts, *written.lines)),
            f"in_blocks({kernel.name}, {kernel.extent}, {kernel.chunks})",
        ]
        return lines, kernel.chunks * written.peak


def _cut(axes: Sequence[int]) -> str:
    return ", ".join("lo:hi" if axis in axes else ":" for axis in range(max(axes) + 1))


def over_lines(instruction: Instruction, names: Sequence[str], sizes: Mapping[Label, str], out: str) -> list[str]:
    """The lines that leave the result of a step in an array that is there."""
    kernel, target = instruction.kernel, instruction.target.name
    if isinstance(kernel, Empty):
        return [f"{target} = {out}"]
    if isinstance(kernel, Full):
        return [f"{target} = {out}", f"{target}.fill({kernel.value})"]
    into = kernel.into(names, sizes.__getitem__, out)
    if into is not None:
        return [into if out == target else f"{target} = {into}"]
    named = [] if out == target else [f"{target} = {out}"]
    read = kernel.seen if isinstance(kernel, Pack) else kernel.source
    return [*named, f"{target}[...] = {read(names, sizes.__getitem__)}"]


def reusable(instruction: Instruction, dying: Sequence[str]) -> Register | None:
    """An operand that dies in a step and whose storage the result may take: entry by entry, in the same order."""
    kernel, target = instruction.kernel, instruction.target
    if not target.sizes or not target.uniform or not takes_over(instruction):
        return None
    for labels, operand in zip(kernel.inputs, instruction.operands, strict=True):
        if (
            operand.root in dying
            and operand.name == operand.root
            and operand.owned
            and labels == kernel.output
            and operand.sizes == target.sizes
            and sum(other.root == operand.root for other in instruction.operands) == 1
        ):
            return operand
    return None


def folded_sizes(instruction: Instruction) -> list[list[AnySize]] | None:
    """The sizes behind each axis of the product of matrices that a step is, where axes of its result are one there."""
    kernel = instruction.kernel
    if not isinstance(kernel, Product) or (groups := kernel.folded) is None:
        return None
    sizes = dict(zip(kernel.output, instruction.target.sizes, strict=True))
    return [[sizes[label] for label in group] for group in groups]


def takes_over(instruction: Instruction) -> bool:
    """Whether a step may write over an operand: entry by entry in one call, or a copy in the same order."""
    kernel = instruction.kernel
    if isinstance(kernel, Pack):
        return kernel.shape is None and kernel.dtype != ""
    return kernel.entrywise and writes_into(instruction)


def writes_into(instruction: Instruction) -> bool:
    """Whether a step can leave its result in an array that is there, with nothing made on the way."""
    kernel = instruction.kernel
    if isinstance(kernel, Pack | Full | Empty):
        return True
    return kernel.into([""] * len(instruction.operands), lambda _: "", "") is not None
