"""Assembling: structured terms as one dense array, plain ones added, structured ones written into strided diagonals."""

from __future__ import annotations

from collections.abc import Sequence

from tensordsl.dims import AnySize
from tensordsl.expr import Expr, Number
from tensordsl.labels import Label, flat
from tensordsl.program.emitter import Emitter, Value, literal
from tensordsl.program.instructions import Register, Term
from tensordsl.program.kernels import Full, Labels, Pack, Reshape, Scatter, Write

SHORT = 8  # entries of an axis that make no loop of their own


def assemble(out: Emitter, terms: Sequence[Term], node: Expr, result: bool = False) -> Value:
    """The dense array of a sum of terms: plain ones added, structured ones written into strided diagonals.

    A `result` lies in memory as its axes say.
    """
    plain = [term for term in terms if not term.structured]
    structured = [term for term in terms if term.structured]
    total: Value | None = None
    ranked = sorted(plain, key=lambda t: -out.count(t.sizes[la] for la in t.labels))
    ranked.sort(key=lambda t: t.coefficient == -1)  # what is subtracted comes after what it is subtracted from
    for term in ranked:
        if total is None:
            total = plain_value(out, term, node, term.coefficient)
        else:
            total = added(out, total, term, node, result)
    if not structured:
        assert total is not None
        return total
    buffer = buffer_for(out, total, structured, node)
    for place, term in enumerate(structured):
        write(out, term, buffer, first=total is None and place == 0)
    return Value(buffer, tuple(range(node.ndim)))


def plain_value(out: Emitter, term: Term, node: Expr, coefficient: Number) -> Value:
    """A term without deltas, its axes among those of the node."""
    core = number_register(coefficient) if term.core is None else out.scaled(term.core, coefficient)
    if not core.sizes:  # a number, which NumPy adds to an array of any shape and dtype as it is
        return Value(core, ())
    place = {label: axis for axis, group in enumerate(term.output) for label in group}
    axes = tuple(place[label] for label in term.labels)
    merged = {axis for axis in axes if len(term.output[axis]) != 1}
    if not merged:
        return Value(core, axes)
    # Axes that are groups of labels: their labels side by side, then made one axis.
    kept = [axis for axis in range(node.ndim) if axis in axes]
    order = tuple(label for axis in kept for label in term.output[axis])
    sizes = [term.sizes[label] for label in order]
    shape = [node.shape[axis] for axis in kept]
    labels = tuple(term.output[axis][0] if len(term.output[axis]) == 1 else -1 - axis for axis in kept)
    source = out.spread(core, term.labels, order, sizes)
    # Axes that do not lie side by side are copied when they are made one.
    kernel = Reshape((order,), labels, out.shape(shape)) if source is core else Pack((order,), labels, out.shape(shape))
    return Value(out.emit(kernel, [source], shape), tuple(kept))


def number_register(value: Number) -> Register:
    text = literal(value)
    return Register(text, (), text, False, False if isinstance(value, complex) else None)


def union(out: Emitter, values: Sequence[Value], node: Expr, result: bool) -> Labels:
    """The axes along which any of the values varies, in the order in which the largest of them lies in memory.

    Of an array that is no result, short axes come first: the loops over the last ones are long then.
    """
    largest = max(values, key=lambda value: (out.count(value.register.sizes), value.axes == tuple(sorted(value.axes))))
    everything = {axis for value in values for axis in value.axes}
    if set(largest.axes) == everything:
        return largest.axes
    return tuple(sorted(everything, key=lambda axis: (not result and out.number(node.shape[axis]) > SHORT, axis)))


def added(out: Emitter, total: Value, term: Term, node: Expr, result: bool) -> Value:
    subtract = term.coefficient == -1
    value = plain_value(out, term, node, 1 if subtract else term.coefficient)
    axes = union(out, [total, value], node, result)
    register = out.map(
        "{0} - {1}" if subtract else "{0} + {1}",
        "x-y" if subtract else "x+y",
        [(total.register, total.axes), (value.register, value.axes)],
        axes,
        [node.shape[axis] for axis in axes],
        ufunc="np.subtract" if subtract else "np.add",
    )
    return Value(register, axes)


def buffer_for(out: Emitter, total: Value | None, structured: Sequence[Term], node: Expr) -> Register:
    """The array that structured terms are written into: zeros, or the sum of the plain terms."""
    cores = [term.core for term in structured if term.core is not None]
    numbers = [literal(t.coefficient) for t in structured if t.core is None or t.coefficient not in (1, -1)]
    first = 0 if total is None else 1
    kinds = [f"{{{place + first}}}" for place in range(len(cores))] + numbers
    axes = tuple(range(node.ndim))
    opaque = tuple(tuple(-1 - node.ndim - place for place in range(core.ndim)) for core in cores)
    if total is None:
        # Of structure alone, as of np.eye and np.ones, the entries are floating-point numbers.
        kinds += [] if cores else ["np.float64"]
        dtype = f"np.result_type({', '.join(kinds)})"
        return out.emit(Full(opaque, axes, "0", out.shape(node.shape), dtype), cores, node.shape)
    dtype = f"np.result_type({', '.join(['{0}', *kinds])})"
    return out.emit(Pack((total.axes, *opaque), axes, None, dtype), [total.register, *cores], node.shape)


def write(out: Emitter, term: Term, buffer: Register, first: bool) -> None:
    """Add a structured term into the strided diagonal of the buffer where its entries are; the first into zeros."""
    labels: Labels = flat(term.output)
    axes = labels
    shape = keys = None
    if any(len(group) != 1 for group in term.output):
        shape = out.shape([term.sizes[label] for label in labels])
        axes = tuple(group[0] if len(group) == 1 else -1 - place for place, group in enumerate(term.output))
    if term.scatter:
        found, places = [], []
        for label in labels:
            if label in term.scatter and term.scatter[label][0].positions is None:
                select, row = term.scatter[label]
                found.append(out.slice(select))
                if row is not None:
                    places.append(row)
            else:
                found.append(":")
                places.append(label)
        if set(found) != {":"}:
            keys = tuple(found)
        labels = tuple(places)
    gathered = [label for label in dict.fromkeys(labels) if label in term.scatter]
    if gathered:
        scatter(out, term, buffer, Write((axes,), axes, labels, shape, keys), gathered)
        return
    sizes: list[AnySize] = [term.sizes[label] for label in dict.fromkeys(labels)]
    if term.core is None:
        kernel = Write((axes,), axes, labels, shape, keys, "=" if first else "+=", literal(term.coefficient))
        out.write(kernel, buffer, [], out.count(sizes))
        return
    sign, scale = ("-=", 1) if term.coefficient == -1 and not first else ("=" if first else "+=", term.coefficient)
    kernel = Write((axes, term.labels), axes, labels, shape, keys, sign)
    out.write(kernel, buffer, [out.scaled(term.core, scale)], out.count(sizes))


def scatter(out: Emitter, term: Term, buffer: Register, into: Write, gathered: Sequence[Label]) -> None:
    """Add a term at lists of places."""
    selections = [term.scatter[label] for label in gathered]
    operands = [out.positions(select) for select, _ in selections]
    rows = [() if row is None else (row,) for _, row in selections]
    number = literal(term.coefficient) if term.core is None else None
    values = [] if term.core is None else [out.scaled(term.core, term.coefficient)]
    inputs = (into.inputs[0], *rows, *(term.labels for _ in values))
    kernel = Scatter(inputs, into.output, into, tuple(gathered), number)
    entries = out.count([selections[0][0].shape[0], *(term.sizes[label] for label in kernel.rest)])
    out.write(kernel, buffer, [*operands, *values], entries)
