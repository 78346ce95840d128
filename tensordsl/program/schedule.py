"""The order of steps: what is written into an array is made right before, so that it need not be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tensordsl.program.instructions import Instruction
from tensordsl.program.kernels import Full, Pack, Product


def late(instructions: Sequence[Instruction], kept: frozenset[str]) -> list[Instruction]:
    """The instructions with each step that serves one write alone moved to where that write is."""
    uses: dict[str, list[int]] = {}
    for place, step in enumerate(instructions):
        for root in {register.root for register in (*step.operands, *step.targets)}:
            uses.setdefault(root, []).append(place)
    order: list[Instruction] = []
    moved: dict[int, list[Instruction]] = {}
    for place, step in enumerate(instructions):
        if not step.writes and step.target.owned and step.target.root not in kept:
            touching = uses[step.target.root]
            if len(touching) == 2 and instructions[touching[1]].writes and _may_wait(instructions, place, touching[1]):
                moved.setdefault(touching[1], []).append(step)
                continue
        order += [*moved.get(place, ()), step]
    return order


def _may_wait(instructions: Sequence[Instruction], place: int, until: int) -> bool:
    """Whether nothing that a step reads is changed before it is needed."""
    reads = {operand.root for operand in instructions[place].operands}
    return not any(
        step.writes and reads & {target.root for target in step.targets} for step in instructions[place + 1 : until]
    )


def without_copies(instructions: Sequence[Instruction], kept: frozenset[str]) -> list[Instruction]:
    """The instructions with what is made only to be copied made in the place of the copy."""
    uses: dict[str, int] = {}
    for step in instructions:
        for root in {register.root for register in (*step.operands, *step.targets)}:
            uses[root] = uses.get(root, 0) + 1
    made_here = [(place, step.target) for place, step in enumerate(instructions) if not step.writes]
    makers = {target.root: place for place, target in made_here if target.owned}
    result: list[Instruction | None] = list(instructions)
    for place, step in enumerate(instructions):
        kernel = step.kernel
        if not isinstance(kernel, Pack) or kernel.shape is not None or kernel.inputs[0] != kernel.output:
            continue
        made, target = step.operands[0], step.target
        maker = result[makers[made.name]] if made.name in makers else None
        if maker is None or uses[made.root] > 2 or made.root in kept or not (made.uniform and target.uniform):
            continue
        result[makers[made.name]] = replace(maker, targets=(target,))
        makers[target.root] = makers[made.name]
        result[place] = None
    return [step for step in result if step is not None]


def whole(instruction: Instruction) -> Instruction:
    """A product that is its own transpose as any other one, which can be made piece by piece."""
    if isinstance(instruction.kernel, Product) and instruction.kernel.by_halves:
        kernel = replace(instruction.kernel, by_halves="")
        return replace(instruction, kernel=kernel, flops=instruction.flops * 8 // 5)
    return instruction


def of_dtype(instruction: Instruction, dtype: str) -> Instruction:
    """Zeros whose dtype is known wait for no operand."""
    if isinstance(instruction.kernel, Full) and instruction.kernel.dtype and instruction.target.uniform:
        return replace(instruction, kernel=replace(instruction.kernel, inputs=(), dtype=dtype), operands=())
    return instruction
