"""Expressions to a `Program`: lowering, then liveness, then the source of one NumPy function."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, count

import numpy as np

from tensordsl.contraction import number_of
from tensordsl.errors import PlanError, amount
from tensordsl.expr import Elementwise, Expr, Pattern, Primitive, Select, Symbol
from tensordsl.functions import routines
from tensordsl.functions.record import Routine
from tensordsl.graph import topological
from tensordsl.program.blocks import BLOCK, LEAST, Blocks, Limits, fuse
from tensordsl.program.choices import cheapest, seconds
from tensordsl.program.emitter import Emitter, literal
from tensordsl.program.instructions import Instruction, Program, Register
from tensordsl.program.kernels import Apply, Full
from tensordsl.program.lowering import Lowering
from tensordsl.program.outputs import Given, again, into
from tensordsl.program.packing import packed
from tensordsl.program.schedule import late, of_dtype, whole, without_copies
from tensordsl.program.source import Writer, Written
from tensordsl.program.threads import in_blocks, thread_count
from tensordsl.rewrites.rewriting import PHASES, simplified

ASSUMED_SIZE = 100  # of a dimension that nothing fixes, for costs and the choice of paths only


def variable(name: str, taken: set[str]) -> str:
    """A name for a Python variable."""
    while keyword.iskeyword(name) or name in ("np", "complex", "__debug__") or name in taken:
        name += "_"
    taken.add(name)
    return name


def build(
    expressions: Sequence[Expr],
    sizes: Mapping[str, int],
    dtype: str | None = None,
    stored: str | None = None,
    memory: int | None = None,
    name: str = "f",
) -> Program:
    """The program of some expressions, its work shared.

    `sizes` are the numbers behind the dimensions, for choosing paths; the source itself holds for any sizes.
    With a `dtype`, the floating type that all arrays have, steps write over
    operands that die there and into a workspace, and are done in blocks; without one, each makes an array of its own.
    `stored` says that arrays for the results are given, `"into"` ones that hold anything, `"again"` ones that an
    earlier call has filled. With `memory`, the bytes alive at once stay within it: blocks are made smaller, and of
    more steps, until they do; `PlanError` where none do.
    """
    symbols = sorted({symbol for e in expressions for symbol in e.symbols}, key=lambda s: s.order)
    dims = sorted(dimensions(expressions))
    expressions = simplified(expressions, *PHASES)
    called = routine_names(expressions, name)
    taken: set[str] = set(called.values())
    arguments: dict[Symbol, str] = {symbol: variable(symbol.name, taken) for symbol in symbols}
    assumed = tuple(d for d in dims if d not in sizes)
    known = {**dict.fromkeys(assumed, ASSUMED_SIZE), **sizes}
    names = {d: variable(d, taken) for d in dims}

    @cache  # what was lowered to be compared need not be lowered again
    def lowered(roots: tuple[Expr, ...]) -> tuple[Emitter, list[Register]]:
        out = Emitter(names, known, set(taken), dict(called), dtype)
        lowering = Lowering(arguments, out)
        lowering.prepare(roots)
        returned: list[Register] = []
        return out, [_fresh(lowering, root, returned) for root in roots]

    chosen = cheapest(expressions, lambda roots: seconds(lowered(tuple(roots))[0].instructions))
    out, kept = lowered(tuple(chosen))
    itemsize = np.dtype(dtype or "float64").itemsize
    steps, roots = out.instructions, frozenset(register.root for register in kept)
    if dtype is not None:
        steps = without_copies([of_dtype(step, f"np.{dtype}") for step in steps], roots)
    steps = late(steps, roots)
    places = [variable("out", taken) for _ in kept] if stored else []
    given = into(steps, kept, places) if stored else Given(tuple(steps), {}, ())
    if stored == "again":
        given = again(given, out.fresh) or given
    writer, written = _written(given, kept, out, dtype, memory)
    instructions = written.instructions
    in_threads = {"in_blocks": in_blocks} if any(isinstance(i.kernel, Blocks) for i in instructions) else {}
    used = _words([*written.lines, *given.copies, *(register.name for register in kept)]) & set(names.values())
    preamble, parameters = [], []
    for d in dims:
        if names[d] not in used:
            continue
        place = next(((arguments[s], p) for s in symbols for p, size in enumerate(s.shape) if str(size) == d), None)
        if place is None:
            parameters.append(d)
        else:
            preamble.append(f"{names[d]} = {place[0]}.shape[{place[1]}]")
    result = places or [register.name for register in kept]
    slots = [slot.name for slot in writer.slots]
    head = ", ".join([*arguments.values(), *places, *(names[d] for d in parameters), *slots])
    tail = result[0] if len(result) == 1 else "(" + ", ".join(result) + ")"
    source = "\n    ".join([f"def {name}({head}):", *preamble, *written.lines, *given.copies, f"return {tail}"]) + "\n"
    return Program(
        tuple(s.name for s in symbols),
        tuple(parameters),
        tuple(preamble),
        instructions,
        tuple(kept),
        known,
        assumed,
        source,
        out.constants,
        {**in_threads, **{name: routine for routine, name in out.called.items()}},
        itemsize * (written.peak + writer.entries),
        sum(itemsize * out.count(register.sizes) for register in kept),
        writer.bases,
        tuple(writer.slots),
    )


def _written(
    given: Given, kept: Sequence[Register], out: Emitter, dtype: str | None, memory: int | None
) -> tuple[Writer, Written]:
    """The source: that which takes the least time, or the first that keeps within the memory."""
    itemsize = np.dtype(dtype or "float64").itemsize
    threads = thread_count()
    choices = [Limits(threads=threads)]
    if memory is not None:
        blocks = (BLOCK, BLOCK >> 3, BLOCK >> 6, BLOCK >> 10, 1)
        leasts = (LEAST, LEAST >> 4, LEAST >> 8)
        # The second is the first without products by half, whose blocks are beside the result.
        choices += [Limits(threads=threads)] + [
            Limits(block, least, t, True) for block in blocks for t in dict.fromkeys((threads, 1)) for least in leasts
        ]
    needed: int | None = None
    for place, limits in enumerate(choices):
        instructions: Sequence[Instruction] = given.instructions
        if place:
            instructions = [whole(instruction) for instruction in instructions]
        elif dtype is not None:
            instructions = packed(instructions, out)
        if dtype is not None:
            instructions = fuse(instructions, kept, out, f"np.{dtype}", limits)
        writer = Writer(out.size, out.count, out.fresh, dtype is not None)
        written = writer.write(instructions, kept, given.storage)
        peak = itemsize * (written.peak + writer.entries)
        if memory is None or peak <= memory:
            return writer, written
        needed = peak if needed is None else min(needed, peak)
    assert needed is not None and memory is not None
    result = sum(itemsize * out.count(register.sizes) for register in kept)
    raise PlanError(
        f"The plan needs {amount(needed)} at the least, of which the result takes {amount(result)}; given were "
        f"{amount(memory)}. Give memory={needed} or more, or ask for less: output='factored' or 'sparse' hold a "
        "derivative without its zeros, td.jvp and td.vjp apply it."
    )


def routine_names(expressions: Sequence[Expr], own: str) -> dict[Routine, str]:
    """What the source calls each function of its nodes: by its name, numbered where an earlier definition has it."""
    nodes = [node for node in topological(expressions) if routines_of(node)]
    nodes.sort(key=lambda node: node.record.version if isinstance(node, Elementwise | Primitive) else 0)
    names: dict[Routine, str] = {}
    for routine in dict.fromkeys(routine for node in nodes for routine in routines_of(node)):
        first = variable(routine.__name__, set())
        numbered = chain([first], (f"{first}_{number}" for number in count(1)))
        names[routine] = next(found for found in numbered if found not in {own, *names.values()})
    return names


def routines_of(node: Expr) -> tuple[Routine, ...]:
    """The functions that the source of a node calls."""
    if isinstance(node, Select):
        return (getattr(routines, node.positions.name),) if isinstance(node.positions, Pattern) else ()
    return node.record.routines if isinstance(node, Elementwise | Primitive) else ()


def dimensions(expressions: Sequence[Expr]) -> set[str]:
    """Every dimension that a size below the expressions is made of, the positions of selections included."""
    from_sizes: set[str] = set()
    seen: set[Expr] = set()
    stack = list(expressions)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        stack.extend(node.children)
        pattern = [node.positions.size] if isinstance(node, Select) and isinstance(node.positions, Pattern) else []
        for size in (*node.shape, *getattr(node, "sizes", ()), getattr(node, "start", 0), *pattern):
            if not isinstance(size, int):
                from_sizes |= size.names
    return from_sizes


def _fresh(lowering: Lowering, node: Expr, returned: list[Register]) -> Register:
    """The value of an output in storage of its own, full-sized: never an argument, a constant, or a broadcast view."""
    out, order = lowering.out, tuple(range(node.ndim))
    number = number_of(node)
    if number is not None and node.ndim:
        entry = literal(number if isinstance(number, complex) else float(number))
        return out.emit(Full((), order, entry, out.shape(node.shape)), [], node.shape)
    value = lowering.dense(node)
    register = value.register
    if not node.ndim and not register.owned:  # an argument, or a number that is in no array
        return out.emit(Apply(((),), (), "np.asarray({0})[()]", ""), [register], ())
    own = any(target.name == register.root for i in out.instructions if not i.writes for target in i.targets)
    shared = any(register.root == other.root for other in returned)
    if own and not shared and len(value.axes) == node.ndim:
        register = out.arranged(register, value.axes, order)
    else:
        register = out.packed(register, value.axes, order, node.shape)
    returned.append(register)
    return register


def _words(lines: Iterable[str]) -> set[str]:
    return {word for line in lines for word in re.findall(r"[^\W\d]\w*", line)}
