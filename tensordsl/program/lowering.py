"""Lowering: from expressions to instructions, each value computed once.

A contraction becomes a *core*, a dense array with one axis for each label that is bound, computed pair by pair along a
contraction path; what is structure (deltas, ones, groups, scattered slices) stays labels until an array is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from tensordsl.contraction import as_operands, is_structured, number_of, slice_of_slice
from tensordsl.dims import AnySize, evaluate
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Number, Primitive, Select, Sum, Symbol
from tensordsl.graph import topological
from tensordsl.labels import Groups, Label, flat
from tensordsl.program.instructions import Instruction, Register, Term
from tensordsl.program.kernels import Labelled, align, letters, pair, path, signature
from tensordsl.simplify import take_out_common_factors


class Value:
    """A register that stands for a node; on the axes in `ones` it has extent one, to be broadcast."""

    __slots__ = ("ones", "register")

    def __init__(self, register: Register, ones: frozenset[int] = frozenset()) -> None:
        self.register, self.ones = register, ones


def literal(value: Number) -> str:
    if isinstance(value, Fraction) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        value = float(value)
    return f"({value!r})" if isinstance(value, complex) or value < 0 else repr(value)


class Lowering:
    """Builds the instructions for some expressions."""

    def __init__(self, arguments: Mapping[Symbol, str], names: Mapping[str, str], sizes: Mapping[str, int],
                 reserved: Iterable[str]) -> None:
        self.instructions: list[Instruction] = []
        self.constants: dict[str, object] = {}
        self.returned: list[Register] = []  # outputs so far, no two of which may share storage
        self.sizes = sizes
        self._names = names  # the variable that holds each dimension
        self._reserved = set(reserved)
        self._count = 0
        self._values: dict[Expr, Value] = {}
        self._cores: dict[Expr, Term] = {}
        self._pairs: dict[object, tuple[Register, tuple[int, ...]]] = {}
        self._inverse_uses: dict[Expr, int] = {}
        for symbol, name in arguments.items():
            self._values[symbol] = Value(Register(name, symbol.shape, name, False))

    # --- emitting -------------------------------------------------------------------------------------------------

    def fresh(self, prefix: str = "t") -> str:
        while True:
            name = f"{prefix}{self._count}"
            self._count += 1
            if name not in self._reserved:
                return name

    def size(self, size: AnySize) -> str:
        """The source of a size."""
        if isinstance(size, int):
            return str(size)
        text = ""
        for monomial, coefficient in size.terms:
            powers = [self._names[n] if p == 1 else f"{self._names[n]}**{p}" for n, p in monomial]
            body = "*".join(powers if abs(coefficient) == 1 and powers else [str(abs(coefficient)), *powers])
            text += (" - " if coefficient < 0 else " + ") + body
        text = text[3:] if text.startswith(" + ") else "-" + text[3:]
        return text if len(size.terms) == 1 else f"({text})"

    def shape(self, sizes: Sequence[AnySize]) -> str:
        return "(" + "".join(f"{self.size(size)}, " for size in sizes).rstrip(" ") + ")"

    def count(self, sizes: Iterable[AnySize]) -> int:
        total = 1
        for size in sizes:
            total *= evaluate(size, self.sizes)
        return total

    def emit(self, kind: str, source: str, operands: Sequence[Register], sizes: Sequence[AnySize], *, labels: str = "",
             flops: int = 0, view_of: Register | None = None, ufunc: str | None = None,
             arguments: tuple[str, ...] = (), truth: bool = False) -> Register:
        name = self.fresh()
        uniform = {r.uniform for r in operands if r.uniform is not None} == {True} and not truth
        target = Register(name, tuple(sizes), view_of.root if view_of else name, view_of is None, uniform)
        moved = 0 if view_of else 8 * (self.count(sizes) + sum(self.count(r.sizes) for r in operands))
        self.instructions.append(Instruction(kind, target, tuple(operands), source, labels, flops, moved, ufunc, arguments))
        return target

    def view(self, of: Register, source: str, sizes: Sequence[AnySize]) -> Register:
        return of if source == of.name else self.emit("view", source, [of], sizes, view_of=of)

    # --- whole expressions ----------------------------------------------------------------------------------------

    def prepare(self, roots: Sequence[Expr]) -> None:
        """Lower everything below the roots, children first, so that no recursion is deep."""
        order = topological(roots)
        for node in order:
            if isinstance(node, Contraction):
                for factor in set(node.factors):
                    if isinstance(factor, Primitive) and factor.record.name == "inv":
                        self._inverse_uses[factor] = self._inverse_uses.get(factor, 0) + 1
            else:
                for child in node.children:
                    if isinstance(child, Primitive) and child.record.name == "inv":
                        self._inverse_uses[child] = self._inverse_uses.get(child, 0) + 2
        only_terms: set[Expr] = {child for node in order if isinstance(node, Sum) for child in node.terms}
        only_terms -= {child for node in order if not isinstance(node, Sum) for child in node.children}
        top = set(roots)
        for node in order:
            if node in top or self._lazy(node) or number_of(node) is not None:
                continue
            if node in only_terms and isinstance(node, Contraction):
                continue
            self.dense(node)

    def _lazy(self, node: Expr) -> bool:
        """An inverse that is used once, in a product, is solved with there instead."""
        return isinstance(node, Select) or self._solvable(node)

    def _solvable(self, node: Expr) -> bool:
        return (isinstance(node, Primitive) and node.record.name == "inv" and node.ndim == 2
                and self._inverse_uses.get(node, 0) == 1 and node not in self._values)

    def terms(self, node: Expr) -> list[Term]:
        """The value as structured terms."""
        if isinstance(node, Sum):  # a sum inside a sum is an array of its own, unless that would be nearly all zeros
            return [term for child in node.terms
                    for term in (self._whole(child) if isinstance(child, Sum) and not is_structured(child)
                                 else self.terms(child))]
        if isinstance(node, Contraction):
            return [self._core(node)]
        if isinstance(node, Select):
            labels = (0,) if node.length is None else (0, 1)
            scatter: dict[Label, tuple[Select, Label | None]] = {labels[-1]: (node, None if node.length is None else 0)}
            return [Term(None, (), 1, tuple((la,) for la in labels), dict(enumerate(node.shape)), scatter)]
        return self._whole(node)

    def _whole(self, node: Expr) -> list[Term]:
        value = self.dense(node)
        kept = [p for p in range(node.ndim) if p not in value.ones]
        core = self._drop(value.register, [p in kept for p in range(node.ndim)])
        return [Term(core, tuple(kept), 1, tuple((p,) for p in range(node.ndim)), dict(enumerate(node.shape)))]

    def dense(self, node: Expr) -> Value:
        """The value as an array."""
        found = self._values.get(node)
        if found is None:
            found = self._values[node] = self._dense(node)
        return found

    def _dense(self, node: Expr) -> Value:
        if isinstance(node, Constant):
            name = self.fresh("c")
            self.constants[name] = node.array
            return Value(Register(name, node.shape, name, False, False))
        if isinstance(node, Elementwise):
            return self._elementwise(node)
        if isinstance(node, Primitive):
            arguments = [self.full(child) for child in node.children]
            sizes = [evaluate(size, self.sizes) for size in node.children[0].shape]
            batch = self.count(node.children[0].shape[:-2])
            source = node.record.numpy.format(*[argument.name for argument in arguments])
            return Value(self.emit("apply", source, arguments, node.shape, labels=node.record.name,
                                   flops=int(batch * node.record.flops(*sizes))))
        if isinstance(node, Sum):
            factored = take_out_common_factors(node)
            if factored is not node:
                return self.dense(factored)
        return self._assemble(self.terms(node), node)

    def full(self, node: Expr) -> Register:
        """The value as an array of the full shape."""
        value = self.dense(node)
        if not value.ones:
            return value.register
        return self.view(value.register, f"np.broadcast_to({value.register.name}, {self.shape(node.shape)})", node.shape)

    def _elementwise(self, node: Elementwise) -> Value:
        values: list[Value] = []
        names: list[str] = []
        registers: list[Register] = []
        exponent = number_of(node.children[1]) if node.record.name == "power" else None
        for child in node.children:
            constant = number_of(child)
            if constant is not None:
                names.append(literal(constant))
            else:
                values.append(self.dense(child))
                registers.append(values[-1].register)
                names.append(registers[-1].name)
        ones = frozenset.intersection(*[value.ones for value in values]) if values else frozenset(range(node.ndim))
        sizes = [1 if p in ones else size for p, size in enumerate(node.shape)]
        entries = self.count(sizes)
        if exponent == -1:
            return Value(self.emit("map", f"1 / {names[0]}", registers, sizes, labels="1/x", flops=entries,
                                   ufunc="np.divide", arguments=("1", names[0])), ones)
        if exponent is not None and not isinstance(exponent, complex):
            names[1] = repr(float(exponent)) if exponent < 0 or isinstance(exponent, Fraction) else repr(exponent)
        source = node.record.numpy.format(*names)
        return Value(self.emit("map", source, registers, sizes, labels=node.record.name,
                               flops=entries * node.record.operations, ufunc=node.record.ufunc,
                               arguments=tuple(names), truth=node.record.truth), ones)

    # --- contractions ---------------------------------------------------------------------------------------------

    def _core(self, node: Contraction) -> Term:
        found = self._cores.get(node)
        if found is None:
            found = self._cores[node] = self._contract(node)
        return found

    def _contract(self, node: Contraction) -> Term:
        coefficient, operands, output, sizes = as_operands(node)
        slicers: dict[Label, tuple[Select, Label | None]] = {}
        others: list[tuple[Expr, Groups]] = []
        for factor, slots in operands:
            if not isinstance(factor, Select) or any(len(group) != 1 for group in slots) \
                    or not add_slicer(slicers, factor, [group[0] for group in slots]):
                others.append((factor, slots))
        scatter = {label: slicers[label] for label in flat(output) if label in slicers}
        term = Term(None, (), coefficient, output, sizes, scatter)
        keep = term.axes
        numbers = {label: evaluate(size, self.sizes) for label, size in sizes.items()}

        inverses: list[tuple[Expr, Groups]] = []
        ready: list[tuple[Register, tuple[Label, ...]]] = []
        for factor, slots in others:
            if self._solvable(factor) and all(len(group) == 1 for group in slots) and slots[0] != slots[1] \
                    and not (slots[0][0] in slicers or slots[1][0] in slicers):
                inverses.append((factor, slots))
                continue
            ready.append(self._operand(self.dense(factor), factor, slots, slicers, sizes))
        pending: list[Expr | None] = [None] * len(ready)
        for factor, slots in inverses:
            pending.append(factor)
            ready.append((self.full(factor.children[0]), (slots[0][0], slots[1][0])))
        bound = {label for _, labels in ready for label in labels}
        gone = [la for la in sizes if la not in keep and la not in bound and la not in slicers]
        for label in gone:  # summed, but in no factor that has it as an axis: the sum multiplies by its size
            if isinstance(sizes[label], int):
                coefficient = coefficient * sizes[label]
            else:
                text = self.size(sizes[label])
                text = text if text.isidentifier() else f"({text})"
                ready.append((Register(text, (), text, False, None), ()))
                pending.append(None)
        if not ready:
            return Term(None, (), coefficient, output, sizes, scatter)

        wanted = [label for label in keep if label in bound]
        smallest = min(range(len(ready)), key=lambda p: self.count(ready[p][0].sizes))
        if coefficient not in (1, -1) and pending[smallest] is None and (
                len(ready) > 1 and self.count(ready[smallest][0].sizes) < self.count(sizes[la] for la in wanted)):
            register, labels = ready[smallest]
            ready[smallest] = (self._scaled(register, coefficient), labels)
            coefficient = 1
        register, labels = self._fold(ready, pending, wanted, numbers, sizes)
        return Term(register, labels, coefficient, output, sizes, scatter)

    def _operand(self, value: Value, node: Expr, slots: Groups, slicers: Mapping[Label, tuple[Select, Label | None]],
                 sizes: Mapping[Label, AnySize]) -> tuple[Register, tuple[Label, ...]]:
        """A factor as a register with one axis for each label: groups split, ones dropped, slices taken, diagonals too."""
        register = value.register
        present = [p not in value.ones and len(group) > 0 for p, group in enumerate(slots)]
        register = self._drop(register, present)
        groups = [group for group, there in zip(slots, present, strict=True) if there]
        labels = list(flat(tuple(groups)))
        if any(len(group) > 1 for group in groups):
            split = [sizes[label] for label in labels]
            register = self.view(register, f"{register.name}.reshape{self.shape(split)}", split)
        if any(label in slicers for label in labels):
            keys, kept, kept_sizes = [], [], []
            for label in labels:
                if label in slicers:
                    select, row = slicers[label]
                    keys.append(self.slice(select))
                    if row is not None:
                        kept.append(row)
                        kept_sizes.append(select.length)
                else:
                    keys.append(":")
                    kept.append(label)
                    kept_sizes.append(sizes[label])
            register = self.view(register, f"{register.name}[{', '.join(keys)}]", kept_sizes)  # type: ignore[arg-type]
            labels = kept
        distinct = tuple(dict.fromkeys(labels))
        if len(distinct) < len(labels):
            names: dict[Label, str] = {}
            text = f'np.einsum("{letters(labels, names)}->{letters(distinct, names)}", {register.name})'
            register = self.emit("diagonal", text, [register], [sizes[la] for la in distinct], view_of=register,
                                 labels=signature([labels], distinct))
        return register, distinct

    def slice(self, select: Select) -> str:
        """The key that takes the slice."""
        start = self.size(select.start)
        if select.length is None:
            return start
        if select.step == 1:
            return f"{start}:{self.size(select.start + select.length)}"
        if select.step > 0:
            return f"{start}:{self.size(select.start + (select.length - 1) * select.step + 1)}:{select.step}"
        last = select.start + (select.length - 1) * select.step
        stop = "" if last == 0 else self.size(last - 1)
        return f"{start}:{stop}:{select.step}"

    def _drop(self, register: Register, present: Sequence[bool]) -> Register:
        if all(present):
            return register
        key = ", ".join(":" if there else "0" for there in present)
        sizes = [size for size, there in zip(register.sizes, present, strict=True) if there]
        return self.view(register, f"{register.name}[{key}]", sizes)

    def _scaled(self, register: Register, coefficient: Number) -> Register:
        if coefficient == 1:
            return register
        key = ("scaled", register.name, repr(coefficient))
        if key not in self._pairs:
            self._pairs[key] = (self._scale(register, coefficient), ())
        return self._pairs[key][0]

    def _scale(self, register: Register, coefficient: Number) -> Register:
        entries = self.count(register.sizes)
        if coefficient == -1:
            return self.emit("map", f"-{register.name}", [register], register.sizes, labels="-x", flops=entries,
                             ufunc="np.negative", arguments=(register.name,))
        text = literal(coefficient)
        return self.emit("map", f"{text} * {register.name}", [register], register.sizes, labels=f"{text}*x",
                         flops=entries, ufunc="np.multiply", arguments=(text, register.name))

    def _fold(self, ready: list[tuple[Register, tuple[Label, ...]]], pending: list[Expr | None], wanted: Sequence[Label],
              numbers: Mapping[Label, int], sizes: Mapping[Label, AnySize]) -> tuple[Register, tuple[Label, ...]]:
        """Contract the operands pair by pair to the labels wanted."""
        operands = [self._sum_out(r, p, labels, [other for q, (_, other) in enumerate(ready) if q != place], wanted, sizes)
                    for place, ((r, labels), p) in enumerate(zip(ready, pending, strict=True))]
        steps = path([frozenset(labels) for _, _, labels in operands], frozenset(wanted), numbers,
                     [inverse is None for _, inverse, _ in operands])
        for p, q in steps:
            first, second = operands[p], operands[q]
            operands = [operand for place, operand in enumerate(operands) if place not in (p, q)]
            elsewhere = {label for _, _, labels in operands for label in labels}
            keep = [la for la in wanted if la in first[2] or la in second[2]] if not operands else []
            elsewhere.update(wanted)
            keep += [la for la in dict.fromkeys((*first[2], *second[2])) if la in elsewhere and la not in keep]
            operands.append(self._pair(first, second, keep, sizes, last=not operands))
        register, inverse, labels = operands[0]
        if inverse is not None:
            register = self.dense(inverse).register
        return register, labels

    def _sum_out(self, register: Register, inverse: Expr | None, labels: tuple[Label, ...],
                 others: Sequence[tuple[Label, ...]], wanted: Sequence[Label],
                 sizes: Mapping[Label, AnySize]) -> tuple[Register, Expr | None, tuple[Label, ...]]:
        """Sum at once over the labels that stand in this operand alone."""
        lonely = [la for la in labels if la not in wanted and not any(la in other for other in others)]
        if not lonely:
            return register, inverse, labels
        if inverse is not None:
            register = self.dense(inverse).register
        axes = tuple(labels.index(label) for label in lonely)
        kept = tuple(label for label in labels if label not in lonely)
        key = ("sum", register.name, axes)
        if key not in self._pairs:
            which = "" if len(axes) == len(labels) else f"axis={axes[0] if len(axes) == 1 else axes}"
            source = f"{register.name}.sum({which})"
            self._pairs[key] = (self.emit("reduce", source, [register], [sizes[la] for la in kept],
                                          labels=signature([labels], kept), flops=self.count(register.sizes)), ())
        return self._pairs[key][0], None, kept

    def _pair(self, a: tuple[Register, Expr | None, tuple[Label, ...]], b: tuple[Register, Expr | None, tuple[Label, ...]],
              keep: Sequence[Label], sizes: Mapping[Label, AnySize],
              last: bool) -> tuple[Register, None, tuple[Label, ...]]:
        if a[1] is not None or b[1] is not None:
            solved = self._solve(a, b, keep, sizes) or self._solve(b, a, keep, sizes)
            if solved is not None:
                return solved
            a, b = (self._explicit(operand) for operand in (a, b))
        if not last:
            keep = [la for la in ((*a[2], *b[2]) if len(a[2]) >= len(b[2]) else (*b[2], *a[2])) if la in keep]
            keep = list(dict.fromkeys(keep))
        # A last product without a sum is made in the order wanted: reading a transposed one costs more than making it.
        ordered = last and {*a[2], *b[2]} == set(keep)

        def described(first: tuple[Register, Expr | None, tuple[Label, ...]],
                      second: tuple[Register, Expr | None, tuple[Label, ...]]) -> tuple[object, ...]:
            numbers: dict[Label, int] = {}
            for label in (*first[2], *second[2]):
                numbers.setdefault(label, len(numbers))
            kept = [numbers[la] for la in keep]
            return (first[0].name, second[0].name, *((numbers[la] for la in first[2])), "by",
                    *(numbers[la] for la in second[2]), "to", *(kept if ordered else sorted(kept)))

        keys = described(a, b), described(b, a)
        if str(keys[1]) < str(keys[0]):  # the same two operands, whichever is named first
            a, b = b, a
        key = min(keys, key=str)
        names = {label: place for place, label in enumerate(dict.fromkeys((*a[2], *b[2])))}
        back = dict(enumerate(names))
        if key not in self._pairs:
            left, right = Labelled(a[0].name, a[2]), Labelled(b[0].name, b[2])
            source, labels, plain = pair(left, right, keep, lambda label: self.size(sizes[label]))
            parts = source.split(" * ") if plain else []
            work = self.count(sizes[la] for la in names) * (1 if plain else 2)
            register = self.emit("contract", source, [a[0], b[0]], [sizes[la] for la in labels],
                                 labels=signature([a[2], b[2]], labels), flops=work,
                                 ufunc="np.multiply" if plain else None, arguments=tuple(parts))
            self._pairs[key] = (register, tuple(names[la] for la in labels))
        register, order = self._pairs[key]
        return register, None, tuple(back[place] for place in order)

    def _explicit(self, operand: tuple[Register, Expr | None, tuple[Label, ...]]) -> tuple[Register, None, tuple[Label, ...]]:
        register, inverse, labels = operand
        return (register if inverse is None else self.dense(inverse).register), None, labels

    def _solve(self, a: tuple[Register, Expr | None, tuple[Label, ...]],
               b: tuple[Register, Expr | None, tuple[Label, ...]], keep: Sequence[Label],
               sizes: Mapping[Label, AnySize]) -> tuple[Register, None, tuple[Label, ...]] | None:
        """An inverse times a vector or matrix, as the solution of a linear system."""
        matrix, inverse, (row, column) = (a if a[1] is not None and len(a[2]) == 2 else (a[0], None, (0, 0)))
        if inverse is None or b[1] is not None:
            return None
        if column in b[2] and column not in keep and row not in b[2]:
            summed, new, text = column, row, matrix.name
        elif row in b[2] and row not in keep and column not in b[2]:
            summed, new, text = row, column, f"{matrix.name}.T"
        else:
            return None
        rest = tuple(label for label in b[2] if label != summed)
        if len(rest) > 1 or any(label not in keep for label in rest):
            return None
        right = align(Labelled(b[0].name, b[2]), [summed, *rest])
        n, m = evaluate(sizes[summed], self.sizes), self.count(sizes[label] for label in rest)
        labels = (new, *rest)
        register = self.emit("apply", f"np.linalg.solve({text}, {right})", [matrix, b[0]], [sizes[la] for la in labels],
                             labels="solve", flops=2 * n**3 // 3 + 2 * n * n * m)
        return register, None, labels

    # --- assembling -----------------------------------------------------------------------------------------------

    def _assemble(self, terms: Sequence[Term], node: Expr) -> Value:
        """The dense array of a sum of terms: plain ones added, structured ones written into strided diagonals."""
        plain = [term for term in terms if not term.structured]
        structured = [term for term in terms if term.structured]
        total: Value | None = None
        ranked = sorted(plain, key=lambda t: -self.count(t.sizes[la] for la in t.labels))
        ranked.sort(key=lambda t: t.coefficient == -1)  # what is subtracted comes after what it is subtracted from
        for term in ranked:
            total = self._added(total, term, node)
        if not structured:
            assert total is not None
            if total.register.ndim < node.ndim:
                shape = [1] * node.ndim
                return Value(self.emit("view", f"np.reshape({total.register.name}, {self.shape(shape)})",
                                       [total.register], shape, view_of=total.register), total.ones)
            return total
        buffer = self._buffer(total, structured, node)
        for term in structured:
            self._write(term, buffer, node)
        return Value(buffer)

    def _plain(self, term: Term, node: Expr, coefficient: Number) -> Value:
        """A term without deltas, its axes those of the node."""
        core = self._number(coefficient) if term.core is None else self._scaled(term.core, coefficient)
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
            source = f"np.broadcast_to({source}, {self.shape(sizes)})"
        register = self.view(core, source, sizes)
        if any(len(group) != 1 for group in term.output):
            shape = [1 if p in ones else size for p, size in enumerate(node.shape)]
            register = self.emit("view", f"{register.name}.reshape{self.shape(shape)}", [register], shape,
                                 view_of=register)
        return Value(register, ones)

    @staticmethod
    def _number(value: Number) -> Register:
        text = literal(value)
        return Register(text, (), text, False, False if isinstance(value, complex) else None)

    def _added(self, total: Value | None, term: Term, node: Expr) -> Value:
        if total is None:
            return self._plain(term, node, term.coefficient)
        subtract = term.coefficient == -1
        value = self._plain(term, node, 1 if subtract else term.coefficient)
        ones = total.ones & value.ones
        a, b = total.register, value.register
        sizes = [1 if p in ones else size for p, size in enumerate(node.shape)] if a.ndim or b.ndim else []
        register = self.emit("map", f"{a.name} {'-' if subtract else '+'} {b.name}", [a, b], sizes,
                             labels="x-y" if subtract else "x+y", flops=self.count(sizes),
                             ufunc="np.subtract" if subtract else "np.add", arguments=(a.name, b.name))
        return Value(register, ones)

    def _buffer(self, total: Value | None, structured: Sequence[Term], node: Expr) -> Register:
        cores = [term.core for term in structured if term.core is not None]
        kinds = [core.name for core in cores]
        kinds += [literal(t.coefficient) for t in structured if t.core is None or t.coefficient not in (1, -1)]
        if total is None:
            # Of structure alone, as of np.eye and np.ones, the entries are floating-point numbers.
            dtype = f"np.result_type({', '.join(kinds)})" if cores else "np.float64"
            return self.emit("allocate", f"np.zeros({self.shape(node.shape)}, {dtype})", cores, node.shape)
        name = total.register.name
        small = bool(total.ones) or total.register.ndim < node.ndim
        source = f"np.broadcast_to({name}, {self.shape(node.shape)})" if small else name
        return self.emit("allocate", f"np.array({source}, dtype=np.result_type({', '.join([name, *kinds])}))",
                         [total.register, *cores], node.shape)

    def _write(self, term: Term, buffer: Register, node: Expr) -> None:
        """Add a structured term into the strided diagonal of the buffer where its entries are."""
        labels = list(flat(term.output))
        view = buffer.name
        if any(len(group) != 1 for group in term.output):
            view += f".reshape{self.shape([term.sizes[label] for label in labels])}"
        if term.scatter:
            keys, places = [], []
            for label in labels:
                if label in term.scatter:
                    select, row = term.scatter[label]
                    keys.append(self.slice(select))
                    if row is not None:
                        places.append(row)
                else:
                    keys.append(":")
                    places.append(label)
            view += f"[{', '.join(keys)}]"
            labels = places
        distinct = list(dict.fromkeys(labels))
        if len(distinct) < len(labels):
            names: dict[Label, str] = {}
            view = f'np.einsum("{letters(labels, names)}->{letters(distinct, names)}", {view})'
        core, operands = literal(term.coefficient), [buffer]
        sign = "+="
        if term.core is not None:
            scale = term.coefficient
            if scale == -1:
                sign, scale = "-=", 1
            register = self._scaled(term.core, scale)
            core = align(Labelled(register.name, term.labels), distinct)
            operands.append(register)
        entries = self.count(term.sizes[label] for label in distinct)
        if not distinct and view == buffer.name:
            view += "[()]"
        source = f"{view}[...] {sign} {core}" if distinct or "[" not in view else f"{view} {sign} {core}"
        self.instructions.append(Instruction("diagonal", buffer, tuple(operands), source,
                                             signature([term.labels], labels), entries, 16 * entries, writes=True))


def add_slicer(slicers: dict[Label, tuple[Select, Label | None]], select: Select, labels: Sequence[Label]) -> bool:
    """Note that `select` takes a slice along a label; a slice of a slice is one slice. False where that is no order."""
    *rows, column = labels
    found, row = select, rows[0] if rows else None
    if row in slicers:
        outer, row = slicers[row]
        found = slice_of_slice(found, outer)
    if column in slicers or column == row:
        return False
    slicers[column] = (found, row)
    for label, (inner, between) in slicers.items():
        if between == column:
            slicers[label] = (slice_of_slice(inner, found), row)
    return True


def scaled_term(lowering: Lowering, term: Term) -> Term:
    """The term with its coefficient worked into its core."""
    if term.core is None or term.coefficient == 1:
        return term
    return Term(lowering._scaled(term.core, term.coefficient), term.labels, 1, term.output, term.sizes, term.scatter)


