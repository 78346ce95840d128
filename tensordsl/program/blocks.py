"""Blocks: steps done together, a piece of one label at a time, so that what lies between them stays in the cache.

Entry-by-entry steps, and sums that read each entry once, cost the time that their arrays take through memory. A group
of such steps that share a label is done block by block along it, by several threads: an array that only the group
uses is then never stored whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

from tensordsl.labels import Label
from tensordsl.program.emitter import Emitter
from tensordsl.program.instructions import Instruction, Register
from tensordsl.program.kernels import Empty, Full, Index, Kernel, Labels, Map, Pack, Product, Total, View, Write

BLOCK = 1 << 17  # entries of the largest array in a block: 1 MB of float64, measured best between 2^14 and 2^19
LEAST = 1 << 17  # entries from which a group gains more than its calls cost
LOW_RANK = 8  # of a product of matrices that does little more with each entry than an outer product
LARGEST_GROUP = 64  # members, so that planning stays linear


@dataclass(frozen=True)
class Blocks(Kernel):
    """A body of instructions, done for pieces of one axis: each operand and target is cut along the axes named."""

    name: str
    body: tuple[Instruction, ...]
    labels: Labels  # what each instruction of the body calls the label that is gone along
    cuts: tuple[tuple[str, Register, tuple[int, ...]], ...]  # a piece's name, what it is cut from, along which axes
    totals: tuple[tuple[str, Register], ...]  # one row for each chunk is added into
    extent: str
    rows: int  # in a block
    chunks: int  # that threads work on side by side
    kind = "blocks"
    writes = True

    @property
    def title(self) -> str:
        return f"{self.rows} of {self.extent}"


class Limits(NamedTuple):
    """How far blocks go: those of `usual` limits save time; those of others save memory."""

    block: int = BLOCK
    least: int = LEAST
    threads: int = 1
    products: bool = False  # whether products of matrices are made piece by piece too


def fuse(
    instructions: Sequence[Instruction], kept: Sequence[Register], out: Emitter, dtype: str, limits: Limits
) -> list[Instruction]:
    """The instructions with groups of them made blocks."""
    roots = {register.root for register in kept}
    found = {group.place: group for group in groups(instructions, roots, out, limits) if group.pays()}
    grouped = {place for group in found.values() for place in group.members}
    fused: list[Instruction] = []
    for place, instruction in enumerate(instructions):
        if place in found:
            fused += found[place].instructions(dtype)
        elif place not in grouped:
            fused.append(instruction)
    return fused


def groups(instructions: Sequence[Instruction], kept: set[str], out: Emitter, limits: Limits) -> list[Group]:
    """Groups of instructions, each done where its last member stands; the roots `kept` are used at the end.

    From the end on, an instruction joins the group of those that use its result, or that read what it reads.
    """
    produced = {target.root for i in instructions for target in i.targets if not i.kernel.views}
    found: list[Group] = []
    for place in reversed(range(len(instructions))):
        instruction = instructions[place]
        if not _fits(instruction, out, limits):
            continue
        large = _reach(instruction, out) >= limits.least
        related = [group for group in reversed(found) if group.related(place)] if large or instruction.writes else []
        ways = [(related[0], related[1:])] if len(related) > 1 else []  # several groups become one where that can be
        for group, others in (*ways, *((group, []) for group in related)):
            joined = group.joined(place, others)
            if joined is not None:
                found = [*(g for g in found if g is not group and g not in others), joined]
                break
        else:
            if large and not instruction.kernel.views:
                found.append(Group(instructions, kept, out, limits, produced, place))
    return found


def _fits(instruction: Instruction, out: Emitter, limits: Limits) -> bool:
    """Whether a step is of those that can gain: it does little with each entry."""
    kernel = instruction.kernel
    if not isinstance(kernel, Map | Product | Total | View | Pack | Write):
        return False
    return limits.products or not multiplies_matrices(instruction, out)


def _reach(instruction: Instruction, out: Emitter) -> int:
    """The entries of the largest array that a step goes through; of one it writes a part of, its lines of memory."""
    entries = [out.count(register.sizes) for register in (*instruction.operands, *instruction.targets)]
    if isinstance(instruction.kernel, Write):
        sizes = dict(zip(instruction.kernel.inputs[0], instruction.target.sizes, strict=True))
        if all(label in sizes for label in instruction.kernel.distinct):
            part = out.count(sizes[label] for label in instruction.kernel.distinct)
            return max(min(8 * part, entries[0]), *entries[1:-1], 0)
    return max(entries)


def multiplies_matrices(step: Instruction, out: Emitter) -> bool:
    """Whether much is done with each entry: that belongs to BLAS, as a whole."""
    kernel = step.kernel
    if not isinstance(kernel, Product) or kernel.loops or _rank(step, out) <= LOW_RANK:
        return False
    everything = {label for labels in (*kernel.inputs, kernel.output) for label in labels}
    return not any(everything <= set(labels) for labels in kernel.inputs)


def _rank(step: Instruction, out: Emitter) -> int:
    """The terms in each entry of a product of matrices; 1 of all else."""
    kernel = step.kernel
    if not isinstance(kernel, Product) or kernel.loops or not all(kernel.free[1:]):
        return 1
    sizes = dict(zip(kernel.inputs[0], step.operands[0].sizes, strict=True))
    return out.count(sizes[label] for label in kernel.summed)


def _loops(kernel: Kernel) -> bool:
    return isinstance(kernel, Product) and kernel.loops


class Group:
    """Instructions that may be done together, by their places in the program."""

    def __init__(
        self,
        instructions: Sequence[Instruction],
        kept: set[str],
        out: Emitter,
        limits: Limits,
        produced: set[str],
        place: int,
    ) -> None:
        self.place = place
        self.members = [place]
        self._all = instructions
        self._kept = kept
        self._out = out
        self._limits = limits
        self._produced = produced
        self._labels = self._choices(self.members, False)

    def related(self, place: int) -> bool:
        """Whether an instruction makes what a member uses, or reads what a member reads."""
        step = self._all[place]
        roots = {target.root for target in step.targets} | ({r.root for r in step.operands} & self._produced)
        return any(r.root in roots for m in self.members for r in (*self._all[m].operands, *self._all[m].targets))

    def joined(self, place: int, others: Sequence[Group]) -> Group | None:
        """This group with an instruction that stands before it, and other groups; None where they cannot be one."""
        members = sorted({place, *self.members, *(m for group in others for m in group.members)})
        at = max(self.place, *(group.place for group in others)) if others else self.place
        if len(members) > LARGEST_GROUP or not all(self._may_wait(m, at, members) for m in members):
            return None
        labels = self._choices(members, True) or self._choices(members, False)
        if not labels:
            return None
        group = copy(self)
        group.place, group.members, group._labels = at, members, labels
        return group

    def _may_wait(self, place: int, until: int, members: Sequence[int]) -> bool:
        """Whether an instruction can be done as late as the group: nothing needs it before, or changes its data."""
        step = self._all[place]
        targets = {target.root for target in step.targets}
        reads = {operand.root for operand in step.operands}
        for other in range(place + 1, len(self._all) if step.kernel.views else until):
            if other not in members:
                between = self._all[other]
                changed = {t.root for t in between.targets} if between.writes else set()
                if changed & reads or targets & {r.root for r in (*between.operands, *between.targets)}:
                    return False
        return True

    def _choices(self, members: Sequence[int], together: bool) -> list[Labels]:
        """The ways to go through all members together: for each, what each member calls the label.

        `together` says that what several members read is cut in the same way for all, as what a member makes is.
        """
        made = {t.root for place in members for t in self._all[place].targets}
        linked_roots = self._produced if together else made
        classes = Classes()
        for place in members:
            step = self._all[place]
            for position, (labels, register) in enumerate(zip(step.kernel.inputs, step.operands, strict=False)):
                if register.root in linked_roots:
                    # Several diagonals of one array are written side by side only along its first axis.
                    linked = labels[:1] if step.writes and position == 0 else labels
                    for axis, label in enumerate(linked):
                        classes.join(("register", register.name, axis), ("label", place, label))
            if not step.writes:
                for axis, label in enumerate(step.kernel.output):
                    classes.join(("register", step.target.name, axis), ("label", place, label))
            for label in {la for labels in step.kernel.inputs for la in labels}:
                classes.join(("label", place, label), ("label", place, label))
        found = []
        for members_of in classes.all():
            called = {int(key[1]): key[2] for key in members_of if key[0] == "label"}
            alone = sum(key[0] == "label" for key in members_of) == len(called) == len(members)
            if alone and self._goes_along(members, called, linked_roots):
                found.append(tuple(called[place] for place in members))
        return found

    def _goes_along(self, members: Sequence[int], labels: dict[int, Label], linked: set[str]) -> bool:
        read = {r.root for place in members for r in self._all[place].operands[self._all[place].writes :]}
        for place in members:
            step, label = self._all[place], labels[place]
            kernel = step.kernel
            if not kernel.along(label):
                return False
            if step.writes:
                # What is read while it is written has to be cut in one way for all.
                if kernel.inputs[0][0] != label or (step.target.root in read and step.target.root not in linked):
                    return False
            elif label not in kernel.output and (kernel.views or step.target.root in read or not step.target.uniform):
                return False
        return True

    def pays(self) -> bool:
        """Whether blocks gain: there is something done entry by entry, not only sums that BLAS makes as well."""
        steps = [self._all[place] for place in self.members]
        outside = self._used_outside(self.members)
        known = all(t.uniform for s in steps for t in s.targets if t.root in outside and not s.kernel.views)
        if self._limits.products:
            useful = any(t.owned and t.root not in outside for s in steps for t in s.targets)
        else:
            useful = any(s.kernel.entrywise or s.writes or _loops(s.kernel) for s in steps)
        return bool(self._labels) and known and useful

    def _used_outside(self, members: Sequence[int]) -> set[str]:
        within = set(members)
        return self._kept | {
            register.root
            for place, step in enumerate(self._all)
            if place not in within
            for register in (*step.operands, *step.targets)
        }

    def instructions(self, dtype: str) -> Iterator[Instruction]:
        """Storage for what the group leaves, the blocks, and the sums of the parts of each chunk."""
        out = self._out
        steps = [self._all[place] for place in self.members]
        labels = max(self._labels, key=self._weight)
        extent = next(
            size
            for step, label in zip(steps, labels, strict=True)
            for names, register in zip(
                (*step.kernel.inputs, step.kernel.output), (*step.operands, *step.targets), strict=False
            )
            for name, size in zip(names, register.sizes, strict=False)
            if name == label
        )
        length = max(1, out.number(extent))
        touched = (
            out.count(r.sizes) // length if label in names else 1
            for step, label in zip(steps, labels, strict=True)
            for position, (names, r) in enumerate(_named(step))
            if position or not step.writes  # of an array that is written into, a part is touched
        )
        largest = max(touched, default=1)  # a number alone is written
        # Products of matrices have the threads of BLAS.
        chunks = 1 if any(multiplies_matrices(step, out) for step in steps) else min(self._limits.threads, length)
        largest *= max(_rank(step, out) for step in steps) if chunks > 1 else 1  # so that BLAS uses the caller's thread
        rows = max(1, min(self._limits.block // max(largest, 1), ceil(length / chunks)))
        outside = self._used_outside(self.members)
        local: dict[tuple[str, tuple[int, ...]], Register] = {}
        inner: dict[str, Register] = {}
        cuts: list[tuple[str, Register, tuple[int, ...]]] = []
        totals: list[tuple[str, Register]] = []
        body: list[Instruction] = []
        loop: list[Label] = []
        before: list[Instruction] = []
        after: list[Instruction] = []
        written: list[Register] = []
        read: list[Register] = []

        def cut(register: Register, names: Labels, label: Label) -> Register:
            """The piece of an array that a block reads or writes."""
            axes = tuple(axis for axis, name in enumerate(names) if name == label)
            if not axes:
                return register
            if (register.name, axes) not in local:
                piece = replace(_piece(register, axes, rows, out.fresh()), owned=False)
                local[register.name, axes] = piece
                cuts.append((piece.name, register, axes))
            return local[register.name, axes]

        for step, label in zip(steps, labels, strict=True):
            kernel = step.kernel
            operands = []
            for position, register in enumerate(step.operands):
                names = kernel.inputs[position] if position < len(kernel.inputs) else ()
                whole = step.writes and position == 0 and register.root in outside
                if register.name in inner and not whole:
                    operands.append(inner[register.name])
                else:
                    if register not in read and register.name not in inner:
                        read.append(register)
                    operands.append(cut(register, names, label))
            if step.writes:
                if step.target.name not in inner or step.target.root in outside:
                    written += [step.target] if step.target not in written else []
                elif kernel.inputs[0].count(label) > 1:  # the piece is cut along its first axis, and then along others
                    names, piece = kernel.inputs[0], operands[0]
                    keys = tuple("lo:hi" if n == label and axis else ":" for axis, n in enumerate(names))
                    sizes = tuple(rows if n == label else s for n, s in zip(names, piece.sizes, strict=True))
                    operands[0] = replace(piece, name=out.fresh(), sizes=sizes, owned=False)
                    body.append(Instruction(Index((names,), names, keys), (operands[0],), (piece,)))
                    loop.append(label)
                body.append(replace(step, operands=tuple(operands), targets=(operands[0],)))
                loop.append(label)
                continue
            target = step.target
            axes = tuple(axis for axis, name in enumerate(kernel.output) if name == label)
            if not axes:  # summed along the blocks: each chunk adds up its own part
                part = replace(target, name=out.fresh(), root="")
                part = replace(part, root=part.name)
                parts = Register(out.fresh(), (chunks, *target.sizes), "", True)
                parts = replace(parts, root=parts.name)
                row = Register(out.fresh(), target.sizes, "", False)
                row = replace(row, root=row.name)
                order = kernel.output
                before.append(Instruction(Full((), (-1, *order), "0", out.shape(parts.sizes), dtype), (parts,), ()))
                body.append(replace(step, operands=tuple(operands), targets=(part,)))
                body.append(Instruction(Write((order, order), order, order), (row,), (row, part)))
                loop += [label, label]
                totals.append((row.name, parts))
                written.append(parts)
                after.append(Instruction(Total(((-1, *order),), order), (target,), (parts,)))
                continue
            if target.root in outside:
                before.append(Instruction(Empty((), kernel.output, out.shape(target.sizes), dtype), (target,), ()))
                written.append(target)
                inner[target.name] = cut(target, kernel.output, label)
            else:
                root = target.root if not kernel.views else operands[0].root
                inner[target.name] = replace(_piece(target, axes, rows, target.name), root=root)
            body.append(replace(step, operands=tuple(operands), targets=(inner[target.name],)))
            loop.append(label)
        blocks = Blocks(
            (),
            (),
            out.fresh("block"),
            tuple(body),
            tuple(loop),
            tuple(cuts),
            tuple(totals),
            out.size(extent),
            rows,
            chunks,
        )
        flops = sum(step.flops for step in steps)
        partly = {step.target.name for step in steps if step.writes}  # of these a part is touched
        moved = 8 * sum(out.count(r.sizes) for r in (*read, *written) if r.name not in partly)
        moved += sum(step.bytes for step in steps if step.writes and step.target in written)
        yield from before
        yield Instruction(blocks, tuple(written), tuple(r for r in read if r not in written), flops, moved)
        yield from after

    def _weight(self, labels: Labels) -> int:
        """How many entries have the label as their first axis, so that the blocks are whole pieces of memory there.

        Less those of sums along the label, of which each block makes a part, several times over.
        """
        total = 0
        for place, label in zip(self.members, labels, strict=True):
            for names, register in _named(self._all[place]):
                if names[:1] == (label,):
                    total += self._out.count(register.sizes)
            step = self._all[place]
            if not step.writes and label not in step.kernel.output:
                total -= 4 * self._out.count(step.target.sizes)
        return total


def _named(step: Instruction) -> Iterator[tuple[Labels, Register]]:
    """The arrays of a step with the labels of their axes."""
    yield from zip(step.kernel.inputs, step.operands, strict=False)
    if not step.writes:
        yield step.kernel.output, step.target


def _piece(register: Register, axes: Sequence[int], rows: int, name: str) -> Register:
    sizes = tuple(rows if axis in axes else size for axis, size in enumerate(register.sizes))
    return replace(register, name=name, root=name, sizes=sizes)


class Classes:
    """Things that are the same, joined pair by pair."""

    def __init__(self) -> None:
        self._parent: dict[tuple[str, int | str, int], tuple[str, int | str, int]] = {}

    def find(self, key: tuple[str, int | str, int]) -> tuple[str, int | str, int]:
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = key = self._parent[self._parent[key]]
        return key

    def join(self, a: tuple[str, int | str, int], b: tuple[str, int | str, int]) -> None:
        self._parent[self.find(a)] = self.find(b)

    def all(self) -> list[list[tuple[str, int | str, int]]]:
        found: dict[tuple[str, int | str, int], list[tuple[str, int | str, int]]] = {}
        for key in self._parent:
            found.setdefault(self.find(key), []).append(key)
        return list(found.values())
