"""Results in arrays that the caller gives: stored there from the start, and, once filled, only where not zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tensordsl.labels import unify_positions
from tensordsl.program.instructions import Instruction, Register
from tensordsl.program.kernels import Arrange, Diagonal, Empty, Full, Labels, Pack, Write


@dataclass(frozen=True)
class Given:
    """Instructions that leave their results in arrays of the caller."""

    instructions: tuple[Instruction, ...]
    storage: Mapping[str, str]  # the source of where each root is stored
    copies: tuple[str, ...]  # lines at the end, for what could not be stored there from the start


def into(instructions: Sequence[Instruction], outputs: Sequence[Register], names: Sequence[str]) -> Given:
    """The instructions with the outputs stored in the arrays called by the names."""
    makers = {i.target.name: i for i in instructions if not i.writes}
    storage: dict[str, str] = {}
    copies: list[str] = []
    for register, name in zip(outputs, names, strict=True):
        found = _stored(register, makers, name)
        if found is not None and found[0] not in storage:
            storage[found[0]] = found[1]
        else:
            copies.append(f"{name}[...] = {register.name}")
    return Given(tuple(instructions), storage, tuple(copies))


def _stored(register: Register, makers: Mapping[str, Instruction], text: str) -> tuple[str, str] | None:
    """The root of an output and how it lies in the array given: as the output itself, or with its axes in an order."""
    if not register.sizes:
        return None
    while register.name != register.root:
        maker = makers.get(register.name)
        if maker is None or not isinstance(maker.kernel, Arrange) or maker.operands[0].ndim != register.ndim:
            return None
        places = tuple(maker.kernel.output.index(label) for label in maker.kernel.inputs[0])
        text = f"{text}.transpose({', '.join(map(str, places))})"
        register = maker.operands[0]
    return (register.root, text) if register.owned and register.uniform else None


def again(given: Given, fresh: Callable[[], str]) -> Given | None:
    """The instructions for arrays that an earlier call has filled: structural zeros are left as they are.

    None where an output has no such zeros, or where its entries lie at places that the data decide.
    """
    instructions = list(given.instructions)
    changed = False
    for root in given.storage:
        found = _rewritten(instructions, root, fresh)
        if found is not None:
            instructions, changed = found, True
    return replace(given, instructions=tuple(instructions)) if changed else None


def _rewritten(instructions: Sequence[Instruction], root: str, fresh: Callable[[], str]) -> list[Instruction] | None:
    """The instructions with the zeros of a root not written again, its other entries written rather than added."""
    touching = [i for i in instructions if any(r.root == root for r in (*i.operands, *i.targets))]
    made, *writes = [i for i in touching if any(t.root == root for t in i.targets)]
    if not isinstance(made.kernel, Full) or made.kernel.value != "0":
        return None
    if any(not isinstance(i.kernel, Write) for i in writes):
        return None
    buffer = made.target
    first: list[Instruction] = [
        replace(made, kernel=Empty((), made.kernel.output, made.kernel.shape, made.kernel.dtype or "None"), operands=())
    ]
    changed: dict[int, list[Instruction]] = {}
    earlier: list[Write] = []
    for step in writes:
        kernel = step.kernel
        assert isinstance(kernel, Write)
        shared = {_together(kernel, other) for other in earlier}
        assigned = replace(step, kernel=replace(kernel, sign={"+=": "=", "-=": "= -"}.get(kernel.sign, kernel.sign)))
        if not shared:
            changed[id(step)] = [assigned]
        elif len(shared) == 1 and None not in shared:
            # Where it meets what was written before, that is kept aside and added again.
            (labels,) = shared
            changed[id(step)] = _beside(buffer, labels, assigned, fresh)  # type: ignore[arg-type]
        else:
            zero = replace(kernel, inputs=kernel.inputs[:1], sign="=", number="0")
            first.append(replace(step, kernel=zero, operands=(buffer,)))
            changed[id(step)] = [step]
        earlier.append(kernel)
    result: list[Instruction] = []
    for step in instructions:
        result += first if step is made else changed.get(id(step), [step])
    return result


def _together(one: Write, other: Write) -> Labels | None:
    """Where two diagonals of an array meet, as the labels of its axes; None where labels do not say it."""
    if one.shape is not None or other.shape is not None or one.keys is not None or other.keys is not None:
        return None
    return unify_positions(one.labels, other.labels)


def _beside(buffer: Register, labels: Labels, assigned: Instruction, fresh: Callable[[], str]) -> list[Instruction]:
    distinct = tuple(dict.fromkeys(labels))
    sizes = tuple(buffer.sizes[labels.index(label)] for label in distinct)
    seen = Register(fresh(), sizes, buffer.root, False)
    name = fresh()
    kept = Register(name, sizes, name, True)
    return [
        Instruction(Diagonal((labels,), distinct), (seen,), (buffer,)),
        Instruction(Pack((distinct,), distinct), (kept,), (seen,)),
        assigned,
        Instruction(Write((labels, distinct), labels, labels), (buffer,), (buffer, kept)),
    ]
