"""Expressions to a `Program`: lowering, then liveness, then the source of one NumPy function."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, count

from tensordsl.contraction import number_of
from tensordsl.expr import Elementwise, Expr, Pattern, Primitive, Select, Symbol
from tensordsl.functions import routines
from tensordsl.functions.record import Routine
from tensordsl.graph import topological
from tensordsl.program.emitter import Emitter, literal
from tensordsl.program.instructions import Instruction, Program, Register, Term
from tensordsl.program.lowering import Lowering
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
    factored: bool = False,
    overwrite: bool = False,
    name: str = "f",
) -> Program:
    """The program of some expressions, its work shared.

    `sizes` are the numbers behind the dimensions, for choosing paths; the source itself holds for any sizes.
    `factored` leaves the outputs as terms; `overwrite` lets a step write over an operand that dies there, which needs
    all arrays to be of one floating type.
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
    out = Emitter(names, known, taken, called)
    lowering = Lowering(arguments, out)
    lowering.prepare(expressions)
    returned: list[Register] = []
    outputs = [
        tuple(map(out.scaled_term, lowering.terms(e))) if factored else _fresh(lowering, e, returned)
        for e in expressions
    ]

    used = _used_names(out.instructions, outputs, names)
    preamble, parameters = [], []
    for d in dims:
        if names[d] not in used:
            continue
        place = next(((arguments[s], p) for s in symbols for p, size in enumerate(s.shape) if str(size) == d), None)
        if place is None:
            parameters.append(d)
        else:
            preamble.append(f"{names[d]} = {place[0]}.shape[{place[1]}]")
    instructions, lines, peak = _finish(out, outputs, overwrite)
    result = [
        o.name if isinstance(o, Register) else "(" + "".join(f"{t.core.name if t.core else 'None'}, " for t in o) + ")"
        for o in outputs
    ]
    head = ", ".join([*arguments.values(), *(names[d] for d in parameters)])
    tail = result[0] if len(result) == 1 else "(" + ", ".join(result) + ")"
    source = "\n    ".join([f"def {name}({head}):", *preamble, *lines, f"return {tail}"]) + "\n"
    size_of = [
        out.count(r.sizes) * 8
        for o in outputs
        for r in ([o] if isinstance(o, Register) else [t.core for t in o if t.core])
    ]
    return Program(
        tuple(s.name for s in symbols),
        tuple(parameters),
        tuple(preamble),
        tuple(instructions),
        tuple(outputs),
        known,
        assumed,
        source,
        out.constants,
        {name: routine for routine, name in called.items()},
        peak,
        sum(size_of),
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
    out = lowering.out
    number = number_of(node)
    if number is not None and node.ndim:
        entry = literal(number if isinstance(number, complex) else float(number))
        return out.emit("allocate", f"np.full({out.shape(node.shape)}, {entry})", [], node.shape)
    value = lowering.dense(node)
    register = value.register
    if not node.ndim and not register.owned:  # an argument, or a number that is in no array
        return out.emit("allocate", f"np.asarray({register.name})[()]", [register], ())
    shared = any(register.root == other.root for other in returned)
    root_owned = any(i.target.name == register.root for i in out.instructions if not i.writes)
    if value.ones:
        register = out.emit(
            "allocate", f"np.broadcast_to({register.name}, {out.shape(node.shape)}).copy()", [register], node.shape
        )
    elif not root_owned or shared:
        register = out.emit("allocate", f"np.array({register.name})", [register], node.shape)
    returned.append(register)
    return register


def _used_names(
    instructions: Sequence[Instruction], outputs: Sequence[Register | tuple[Term, ...]], names: Mapping[str, str]
) -> set[str]:
    words = {word for i in instructions for word in re.findall(r"[^\W\d]\w*", i.source)}
    words |= {
        word
        for o in outputs
        for r in ([o] if isinstance(o, Register) else [t.core for t in o if t.core])
        for word in re.findall(r"[^\W\d]\w*", r.name)
    }
    return words & set(names.values())


def _finish(
    out: Emitter, outputs: Sequence[Register | tuple[Term, ...]], overwrite: bool
) -> tuple[list[Instruction], list[str], int]:
    """Liveness: steps write over what dies in them, storage is let go after its last use; and the peak of all alive."""
    instructions = out.instructions
    kept = {r.root for o in outputs for r in ([o] if isinstance(o, Register) else [t.core for t in o if t.core])}
    last: dict[str, int] = {}
    names_of: dict[str, list[str]] = {}
    for place, instruction in enumerate(instructions):
        for register in (*instruction.operands, instruction.target):
            last[register.root] = place
        roots = names_of.setdefault(instruction.target.root, [])
        if instruction.target.name not in roots:
            roots.append(instruction.target.name)
    allocated = {i.target.root for i in instructions if i.target.owned}
    alive: dict[str, int] = {}
    lines, done, total, peak = [], [], 0, 0
    moved: dict[str, str] = {}  # roots whose storage was taken over by another register

    for place, instruction in enumerate(instructions):
        source = instruction.source
        dead_here = [
            root
            for root in dict.fromkeys(r.root for r in instruction.operands)
            if last[root] == place and root in allocated and root not in kept
        ]
        reused = None
        if overwrite and instruction.ufunc and instruction.target.sizes and instruction.target.uniform:
            for operand in instruction.operands:
                if (
                    operand.root in dead_here
                    and operand.name == operand.root
                    and operand.sizes == instruction.target.sizes
                    and operand.name in instruction.arguments
                    and sum(other.root == operand.root and other != operand for other in instruction.operands) == 0
                ):
                    reused = operand
                    break
            if reused is not None:
                source = f"{instruction.ufunc}({', '.join([*instruction.arguments, f'out={reused.name}'])})"
        line = source if instruction.writes else f"{instruction.target.name} = {source}"
        lines.append(line)
        if instruction.target.owned and not instruction.writes:
            if reused is not None:
                alive[instruction.target.root] = alive.pop(reused.root, 0)
                moved[reused.root] = instruction.target.root
            else:
                alive[instruction.target.root] = 8 * out.count(instruction.target.sizes)
                total += alive[instruction.target.root]
        peak = max(peak, total)
        gone = [name for root in dead_here for name in names_of.get(root, [])]
        for root in dead_here:
            if root not in moved:
                total -= alive.pop(root, 0)
        big = any(out.count(r.sizes) > 512 or r.ndim for r in instruction.operands)
        if gone and big:
            lines.append(f"del {', '.join(gone)}")
        done.append(replace(instruction, source=source))
    return done, lines, peak
