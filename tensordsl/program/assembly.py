"""Assembling: structured terms as one dense array, plain ones added, structured ones written into strided diagonals."""

from __future__ import annotations

from collections.abc import Sequence

from tensordsl.expr import Expr, Number
from tensordsl.labels import Label, flat
from tensordsl.program.emitter import Emitter, Value, literal
from tensordsl.program.instructions import Instruction, Register, Term
from tensordsl.program.kernels import Labelled, align, letters, signature


def assemble(out: Emitter, terms: Sequence[Term], node: Expr) -> Value:
    """The dense array of a sum of terms: plain ones added, structured ones written into strided diagonals."""
    plain = [term for term in terms if not term.structured]
    structured = [term for term in terms if term.structured]
    total: Value | None = None
    ranked = sorted(plain, key=lambda t: -out.count(t.sizes[la] for la in t.labels))
    ranked.sort(key=lambda t: t.coefficient == -1)  # what is subtracted comes after what it is subtracted from
    for term in ranked:
        total = added(out, total, term, node)
    if not structured:
        assert total is not None
        if total.register.ndim < node.ndim:
            shape = [1] * node.ndim
            return Value(
                out.emit(
                    "view",
                    f"np.reshape({total.register.name}, {out.shape(shape)})",
                    [total.register],
                    shape,
                    view_of=total.register,
                ),
                total.ones,
            )
        return total
    buffer = buffer_for(out, total, structured, node)
    for term in structured:
        write(out, term, buffer, node)
    return Value(buffer)


def plain_value(out: Emitter, term: Term, node: Expr, coefficient: Number) -> Value:
    """A term without deltas, its axes those of the node."""
    core = number_register(coefficient) if term.core is None else out.scaled(term.core, coefficient)
    if not core.sizes:  # a number, which NumPy adds to an array of any shape and dtype as it is
        return Value(core, frozenset(p for p, size in enumerate(node.shape) if size != 1))
    order = list(flat(term.output))
    ones = frozenset(p for p, group in enumerate(term.output) if len(group) == 1 and group[0] not in term.labels)
    missing = [label for group in term.output if len(group) > 1 for label in group if label not in term.labels]
    source = align(Labelled(core.name, term.labels), order)
    absent = [label for label in order if label not in term.labels]
    lead = len(order) - core.ndim - source.count("None") if core.ndim or order else 0
    if lead and absent and (any(len(group) != 1 for group in term.output) or lead > 0):
        source = f"{source}[{', '.join(['None'] * lead + ['...'])}]"
    sizes = [1 if label in absent else term.sizes[label] for label in order]
    if missing:
        sizes = [term.sizes[la] if la in missing else size for la, size in zip(order, sizes, strict=True)]
        source = f"np.broadcast_to({source}, {out.shape(sizes)})"
    register = out.view(core, source, sizes)
    if any(len(group) != 1 for group in term.output):
        shape = [1 if p in ones else size for p, size in enumerate(node.shape)]
        register = out.emit("view", f"{register.name}.reshape{out.shape(shape)}", [register], shape, view_of=register)
    return Value(register, ones)


def number_register(value: Number) -> Register:
    text = literal(value)
    return Register(text, (), text, False, False if isinstance(value, complex) else None)


def added(out: Emitter, total: Value | None, term: Term, node: Expr) -> Value:
    if total is None:
        return plain_value(out, term, node, term.coefficient)
    subtract = term.coefficient == -1
    value = plain_value(out, term, node, 1 if subtract else term.coefficient)
    ones = total.ones & value.ones
    a, b = total.register, value.register
    sizes = [1 if p in ones else size for p, size in enumerate(node.shape)] if a.ndim or b.ndim else []
    register = out.emit(
        "map",
        f"{a.name} {'-' if subtract else '+'} {b.name}",
        [a, b],
        sizes,
        labels="x-y" if subtract else "x+y",
        flops=out.count(sizes),
        ufunc="np.subtract" if subtract else "np.add",
        arguments=(a.name, b.name),
    )
    return Value(register, ones)


def buffer_for(out: Emitter, total: Value | None, structured: Sequence[Term], node: Expr) -> Register:
    cores = [term.core for term in structured if term.core is not None]
    kinds = [core.name for core in cores]
    kinds += [literal(t.coefficient) for t in structured if t.core is None or t.coefficient not in (1, -1)]
    if total is None:
        # Of structure alone, as of np.eye and np.ones, the entries are floating-point numbers.
        kinds += [] if cores else ["np.float64"]
        dtype = f"np.result_type({', '.join(kinds)})"
        return out.emit("allocate", f"np.zeros({out.shape(node.shape)}, {dtype})", cores, node.shape)
    name = total.register.name
    small = bool(total.ones) or total.register.ndim < node.ndim
    source = f"np.broadcast_to({name}, {out.shape(node.shape)})" if small else name
    return out.emit(
        "allocate",
        f"np.array({source}, dtype=np.result_type({', '.join([name, *kinds])}))",
        [total.register, *cores],
        node.shape,
    )


def write_gathered(
    out: Emitter, term: Term, buffer: Register, view: str, labels: Sequence[Label], gathered: Sequence[Label]
) -> None:
    """Add a term at lists of places, which may name a place several times: `np.add.at` adds them all."""
    rows = list(dict.fromkeys(term.scatter[label][1] for label in gathered))
    along = [label for label in labels if label in rows]  # a row that is an axis too is gone through beside its places
    rest = [label for label in labels if label not in gathered and label not in along]
    order = [*gathered, *along, *rest]
    keys, operands = [], [buffer]
    for label in (*gathered, *along):
        row = term.scatter[label][1] if label in term.scatter else label
        if label in term.scatter:
            positions = out.positions(term.scatter[label][0])
            operands.append(positions)
            name = positions.name
        else:
            name = f"np.arange({out.size(term.sizes[label])})"
        after = len(rows) - 1 - rows.index(row)
        keys.append(name + (f"[:{', None' * after}]" if after else ""))
    places = [labels.index(label) for label in order]
    turned = view if places == sorted(places) else f"{view}.transpose({', '.join(map(str, places))})"
    core = literal(term.coefficient)
    if term.core is not None:
        register = out.scaled(term.core, term.coefficient)
        core = align(Labelled(register.name, term.labels), [*(row for row in rows if row is not None), *rest])
        operands.append(register)
    places_text = ", ".join(keys) + ("," if len(keys) == 1 else "")
    entries = out.count([term.scatter[gathered[0]][0].shape[0], *(term.sizes[label] for label in rest)])
    out.instructions.append(
        Instruction(
            "diagonal",
            buffer,
            tuple(operands),
            f"np.add.at({turned}, ({places_text}), {core})",
            signature([term.labels], order),
            entries,
            16 * entries,
            writes=True,
        )
    )


def write(out: Emitter, term: Term, buffer: Register, node: Expr) -> None:
    """Add a structured term into the strided diagonal of the buffer where its entries are."""
    labels = list(flat(term.output))
    view = buffer.name
    if any(len(group) != 1 for group in term.output):
        view += f".reshape{out.shape([term.sizes[label] for label in labels])}"
    if term.scatter:
        keys, places = [], []
        for label in labels:
            if label in term.scatter and term.scatter[label][0].positions is None:
                select, row = term.scatter[label]
                keys.append(out.slice(select))
                if row is not None:
                    places.append(row)
            else:
                keys.append(":")
                places.append(label)
        if set(keys) != {":"}:
            view += f"[{', '.join(keys)}]"
        labels = places
    distinct = list(dict.fromkeys(labels))
    if len(distinct) < len(labels):
        names: dict[Label, str] = {}
        view = f'np.einsum("{letters(labels, names)}->{letters(distinct, names)}", {view})'
    core, operands = literal(term.coefficient), [buffer]
    gathered = [label for label in distinct if label in term.scatter]
    if gathered:
        write_gathered(out, term, buffer, view, distinct, gathered)
        return
    sign = "+="
    if term.core is not None:
        scale = term.coefficient
        if scale == -1:
            sign, scale = "-=", 1
        register = out.scaled(term.core, scale)
        core = align(Labelled(register.name, term.labels), distinct)
        operands.append(register)
    entries = out.count(term.sizes[label] for label in distinct)
    if not distinct and view == buffer.name:
        view += "[()]"
    source = f"{view}[...] {sign} {core}" if distinct or "[" not in view else f"{view} {sign} {core}"
    out.instructions.append(
        Instruction(
            "diagonal",
            buffer,
            tuple(operands),
            source,
            signature([term.labels], labels),
            entries,
            16 * entries,
            writes=True,
        )
    )
