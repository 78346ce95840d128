"""Instructions to source: storage is let go after its last use, steps write over what dies in them, and the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tensordsl.dims import AnySize
from tensordsl.labels import Label
from tensordsl.program.instructions import Instruction, Register
from tensordsl.program.kernels import Kernel, Pack

SMALL = 512  # entries up to which a number is not worth a line that lets it go


@dataclass(frozen=True)
class Written:
    """Instructions with their source, the lines of the program, and the bytes alive at the peak."""

    instructions: tuple[Instruction, ...]
    lines: tuple[str, ...]
    peak: int


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


def write(
    instructions: Sequence[Instruction],
    kept: Iterable[Register],
    overwrite: bool,
    size: Callable[[AnySize], str],
    count: Callable[[Sequence[AnySize]], int],
) -> Written:
    """The source of instructions of which the registers `kept` are returned.

    With `overwrite` a step may write over an operand that dies there, which needs all arrays to be of one dtype.
    """
    roots = {register.root for register in kept}
    last: dict[str, int] = {}
    names_of: dict[str, dict[str, None]] = {}
    for place, instruction in enumerate(instructions):
        for register in (*instruction.operands, *instruction.targets):
            last[register.root] = place
        for target in instruction.targets:
            names_of.setdefault(target.root, {})[target.name] = None
    allocated = {target.root for i in instructions for target in i.targets if target.owned}
    alive: dict[str, int] = {}
    lines: list[str] = []
    done: list[Instruction] = []
    total = peak = 0

    for place, instruction in enumerate(instructions):
        operand_roots = dict.fromkeys(register.root for register in instruction.operands)
        dying = [r for r in operand_roots if last[r] == place and r in allocated and r not in roots]
        sizes = label_sizes(instruction)
        names = [register.name for register in instruction.operands]
        reused = reusable(instruction, dying) if overwrite else None
        source = None
        if reused is not None:
            over_itself = isinstance(instruction.kernel, Pack)
            source = (
                reused.name
                if over_itself
                else instruction.kernel.into(names, lambda label: size(sizes[label]), reused.name)  # noqa: B023
            )
        if source is None:
            reused = None
            source = instruction.kernel.source(names, lambda label: size(sizes[label]))  # noqa: B023
        written = replace(instruction, source=source)
        lines.append(written.text)
        done.append(written)
        if not instruction.writes:
            for target in instruction.targets:
                if target.owned and reused is not None:
                    alive[target.root] = alive.pop(reused.root, 0)
                elif target.owned:
                    alive[target.root] = 8 * count(target.sizes)
                    total += alive[target.root]
        peak = max(peak, total)
        gone = [name for root in dying for name in names_of.get(root, ())]
        for root in dying:
            total -= alive.pop(root, 0)
        if gone and any(register.ndim or count(register.sizes) > SMALL for register in instruction.operands):
            lines.append(f"del {', '.join(gone)}")
    return Written(tuple(done), tuple(lines), peak)


def reusable(instruction: Instruction, dying: Sequence[str]) -> Register | None:
    """An operand that dies in a step and whose storage the result may take: entry by entry, in the same order."""
    kernel, target = instruction.kernel, instruction.target
    if not target.sizes or not target.uniform or not takes_over(kernel):
        return None
    for labels, operand in zip(kernel.inputs, instruction.operands, strict=True):
        if (
            operand.root in dying
            and operand.name == operand.root
            and labels == kernel.output
            and operand.sizes == target.sizes
            and sum(other.root == operand.root for other in instruction.operands) == 1
        ):
            return operand
    return None


def takes_over(kernel: Kernel) -> bool:
    """Whether a kernel may write over an operand: entry by entry, or a copy in the same order."""
    return kernel.entrywise or (isinstance(kernel, Pack) and kernel.shape is None and kernel.dtype != "")
