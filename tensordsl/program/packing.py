"""Packing: operands that a product of matrices has to copy into its order are copied by steps of their own.

NumPy would copy them as well, into memory that is new in each call, whose pages the system has to fill; a step keeps
its storage between calls, and serves every product that takes the operand in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tensordsl.program import source
from tensordsl.program.blocks import multiplies_matrices
from tensordsl.program.emitter import Emitter
from tensordsl.program.instructions import Instruction, Register
from tensordsl.program.kernels import Labels, Pack, Product


def packed(instructions: Sequence[Instruction], out: Emitter) -> list[Instruction]:
    """The instructions with a step before each product for each large operand that it packs."""
    made: dict[tuple[str, str, tuple[int, ...]], Register] = {}
    found: list[Instruction] = []

    def pack(register: Register, labels: Labels, order: Labels) -> Register:
        axes = tuple(map(labels.index, order))
        key = register.root, register.name, axes
        if key not in made:
            sizes = tuple(register.sizes[axis] for axis in axes)
            target = Register(name := out.fresh(), sizes, name, True, register.uniform)
            entries = out.count(sizes)
            found.append(Instruction(Pack((labels,), order), (target,), (register,), 0, 16 * entries))
            made[key] = target
        return made[key]

    for step in instructions:
        kernel = step.kernel
        if isinstance(kernel, Product) and multiplies_matrices(step, out):
            orders = [
                order if register.uniform and out.count(register.sizes) >= source.KEPT else labels
                for register, labels, order in zip(step.operands, kernel.inputs, kernel.packed, strict=True)
            ]
            operands = [
                pack(register, labels, order) if order != labels else register
                for register, labels, order in zip(step.operands, kernel.inputs, orders, strict=True)
            ]
            found.append(replace(step, kernel=replace(kernel, inputs=tuple(orders)), operands=tuple(operands)))
            continue
        if step.writes:
            roots = {target.root for target in step.targets}
            made = {key: register for key, register in made.items() if key[0] not in roots}
        found.append(step)
    return found
