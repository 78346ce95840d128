"""Lowering: from expressions to instructions, each value computed once.

A contraction becomes a *core*, a dense array with one axis for each label that is bound, computed pair by pair along a
contraction path; what is structure (deltas, ones, groups, scattered slices) stays labels until an array is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensordsl.contraction import as_operands, is_structured, number_of
from tensordsl.dims import AnySize, evaluate
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Primitive, Select, Sum, Symbol
from tensordsl.graph import topological
from tensordsl.labels import Groups, Label, flat
from tensordsl.program.assembly import assemble
from tensordsl.program.emitter import Emitter, Value, literal
from tensordsl.program.instructions import Register, Term
from tensordsl.program.kernels import Labelled, align, letters, pair, path, signature
from tensordsl.rewrites.factors import take_out_common_factors
from tensordsl.selections import slice_of_slice


class Lowering:
    """Builds the instructions for some expressions."""

    def __init__(self, arguments: Mapping[Symbol, str], out: Emitter) -> None:
        self.out = out
        self._values: dict[Expr, Value] = {}
        self._counted: dict[tuple[Expr, str], Value] = {}
        self._cores: dict[Expr, Term] = {}
        self._pairs: dict[object, tuple[Register, tuple[int, ...]]] = {}
        self._inverse_uses: dict[Expr, int] = {}
        for symbol, name in arguments.items():
            self._values[symbol] = Value(Register(name, symbol.shape, name, False))

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
        return (
            isinstance(node, Primitive)
            and node.record.name == "inv"
            and node.ndim == 2
            and self._inverse_uses.get(node, 0) == 1
            and node not in self._values
        )

    def terms(self, node: Expr) -> list[Term]:
        """The value as structured terms."""
        if isinstance(node, Sum):  # a sum inside a sum is an array of its own, unless that would be nearly all zeros
            return [
                term
                for child in node.terms
                for term in (
                    self._whole(child) if isinstance(child, Sum) and not is_structured(child) else self.terms(child)
                )
            ]
        if isinstance(node, Contraction):
            return [self._core(node)]
        if isinstance(node, Select):
            labels = (0,) if node.length is None else (0, 1)
            scatter: dict[Label, tuple[Select, Label | None]] = {labels[-1]: (node, None if node.length is None else 0)}
            return [Term(None, (), 1, tuple((la,) for la in labels), dict(enumerate(node.shape)), scatter)]
        return self._whole(node)

    def _whole(self, node: Expr) -> list[Term]:
        value = self.number(node)
        kept = [p for p in range(node.ndim) if p not in value.ones]
        core = self.out.drop(value.register, [p in kept for p in range(node.ndim)])
        return [Term(core, tuple(kept), 1, tuple((p,) for p in range(node.ndim)), dict(enumerate(node.shape)))]

    def number(self, node: Expr, dtype: str = "np.int16") -> Value:
        """The value as numbers to compute with: truth values count as 0 and 1, as sums of them do.

        In 16 bits they leave the type of floating-point numbers beside them as it is, as truth values do in NumPy.
        """
        value = self.dense(node)
        if not is_truth(node):
            return value
        key = (node, dtype)
        if key not in self._counted:
            register = value.register
            source = f"{register.name}.astype({dtype})" if register.ndim else f"{dtype}({register.name})"
            counted = self.out.emit("map", source, [register], register.sizes, labels="x", own_dtype=True)
            self._counted[key] = Value(counted, value.ones)
        return self._counted[key]

    def dense(self, node: Expr) -> Value:
        """The value as an array."""
        found = self._values.get(node)
        if found is None:
            found = self._values[node] = self._dense(node)
        return found

    def _dense(self, node: Expr) -> Value:
        if isinstance(node, Constant):
            name = self.out.fresh("c")
            self.out.constants[name] = node.array
            return Value(Register(name, node.shape, name, False, False))
        if isinstance(node, Elementwise):
            return self._elementwise(node)
        if isinstance(node, Primitive):
            arguments = [self.full(child) for child in node.children]
            sizes = [evaluate(size, self.out.sizes) for size in node.children[0].shape]
            batch = self.out.count(node.children[0].shape[:-2])
            source = self.out.call(node.record, [argument.name for argument in arguments])
            return Value(
                self.out.emit(
                    "apply",
                    source,
                    arguments,
                    node.shape,
                    labels=node.record.name,
                    flops=int(batch * node.record.flops(*sizes)),
                )
            )
        if isinstance(node, Sum):
            factored = take_out_common_factors(node)
            if factored is not node:
                return self.dense(factored)
        return assemble(self.out, self.terms(node), node)

    def full(self, node: Expr) -> Register:
        """The value as an array of the full shape."""
        value = self.dense(node)
        number = number_of(node)
        if isinstance(number, int) and node.ndim:  # ones are floating-point numbers, as np.ones makes them
            return self.out.emit("allocate", f"np.full({self.out.shape(node.shape)}, {float(number)})", [], node.shape)
        if not value.ones:
            return value.register
        return self.out.view(
            value.register, f"np.broadcast_to({value.register.name}, {self.out.shape(node.shape)})", node.shape
        )

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
                # A function of truth values is one of the numbers 0 and 1, in full precision.
                whole = is_truth(child) and not node.record.truth and not (node.record.name == "where" and not values)
                values.append(self.number(child, "np.int64") if whole else self.dense(child))
                registers.append(values[-1].register)
                names.append(registers[-1].name)
        ones = frozenset.intersection(*[value.ones for value in values]) if values else frozenset(range(node.ndim))
        sizes = [1 if p in ones else size for p, size in enumerate(node.shape)]
        entries = self.out.count(sizes)
        if exponent == -1:
            return Value(
                self.out.emit(
                    "map",
                    f"1 / {names[0]}",
                    registers,
                    sizes,
                    labels="1/x",
                    flops=entries,
                    ufunc="np.divide",
                    arguments=("1", names[0]),
                ),
                ones,
            )
        if exponent is not None and not isinstance(exponent, complex):
            names[1] = literal(float(exponent) if exponent < 0 else exponent)
        source = self.out.call(node.record, names)
        return Value(
            self.out.emit(
                "map",
                source,
                registers,
                sizes,
                labels=node.record.name,
                flops=entries * node.record.operations,
                ufunc=node.record.ufunc,
                arguments=tuple(names),
                own_dtype=node.record.truth or any(isinstance(number_of(child), complex) for child in node.children),
            ),
            ones,
        )

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
            if (
                not isinstance(factor, Select)
                or any(len(group) != 1 for group in slots)
                or not add_slicer(slicers, factor, [group[0] for group in slots])
            ):
                others.append((factor, slots))
        scatter = {label: slicers[label] for label in flat(output) if label in slicers}
        term = Term(None, (), coefficient, output, sizes, scatter)
        keep = term.axes
        numbers = {label: evaluate(size, self.out.sizes) for label, size in sizes.items()}

        truths = all(is_truth(factor) for factor, _ in others)

        def number(factor: Expr) -> Value:
            return self.number(factor, "np.int64") if truths else self.dense(factor)

        inverses: list[tuple[Expr, Groups]] = []
        ready: list[tuple[Register, tuple[Label, ...]]] = []
        for factor, slots in others:
            if (
                self._solvable(factor)
                and all(len(group) == 1 for group in slots)
                and slots[0] != slots[1]
                and not (slots[0][0] in slicers or slots[1][0] in slicers)
            ):
                inverses.append((factor, slots))
                continue
            ready.append(self._operand(number(factor), factor, slots, slicers, sizes))
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
                text = self.out.size(sizes[label])
                text = text if text.isidentifier() else f"({text})"
                ready.append((Register(text, (), text, False, None), ()))
                pending.append(None)
        if not ready:
            return Term(None, (), coefficient, output, sizes, scatter)

        wanted = [label for label in keep if label in bound]
        smallest = min(range(len(ready)), key=lambda p: self.out.count(ready[p][0].sizes))
        if (
            coefficient not in (1, -1)
            and pending[smallest] is None
            and (
                len(ready) > 1 and self.out.count(ready[smallest][0].sizes) < self.out.count(sizes[la] for la in wanted)
            )
        ):
            register, labels = ready[smallest]
            ready[smallest] = (self.out.scaled(register, coefficient), labels)
            coefficient = 1
        register, labels = self._fold(ready, pending, wanted, numbers, sizes)
        return Term(register, labels, coefficient, output, sizes, scatter)

    def _operand(
        self,
        value: Value,
        node: Expr,
        slots: Groups,
        slicers: Mapping[Label, tuple[Select, Label | None]],
        sizes: Mapping[Label, AnySize],
    ) -> tuple[Register, tuple[Label, ...]]:
        """A factor with one axis for each label: groups split, ones dropped, slices and diagonals taken."""
        register = value.register
        present = [p not in value.ones and len(group) > 0 for p, group in enumerate(slots)]
        register = self.out.drop(register, present)
        groups = [group for group, there in zip(slots, present, strict=True) if there]
        labels = list(flat(tuple(groups)))
        if any(len(group) > 1 for group in groups):
            split = [sizes[label] for label in labels]
            register = self.out.view(register, f"{register.name}.reshape{self.out.shape(split)}", split)
        if any(label in slicers for label in labels):
            keys, kept, kept_sizes = [], [], []
            for label in labels:
                if label in slicers and slicers[label][0].positions is None:
                    select, row = slicers[label]
                    keys.append(self.out.slice(select))
                    if row is not None:
                        kept.append(row)
                        kept_sizes.append(select.length)
                else:
                    keys.append(":")
                    kept.append(label)
                    kept_sizes.append(sizes[label])
            if set(keys) != {":"}:
                source = f"{register.name}[{', '.join(keys)}]"
                register = self.out.view(register, source, kept_sizes)  # type: ignore[arg-type]
            labels = kept
            register, labels = self._gather(register, labels, slicers, sizes)
        distinct = tuple(dict.fromkeys(labels))
        if len(distinct) < len(labels):
            names: dict[Label, str] = {}
            text = f'np.einsum("{letters(labels, names)}->{letters(distinct, names)}", {register.name})'
            register = self.out.emit(
                "diagonal",
                text,
                [register],
                [sizes[la] for la in distinct],
                view_of=register,
                labels=signature([labels], distinct),
            )
        return register, distinct

    def _gather(
        self,
        register: Register,
        labels: list[Label],
        slicers: Mapping[Label, tuple[Select, Label | None]],
        sizes: Mapping[Label, AnySize],
    ) -> tuple[Register, list[Label]]:
        """Entries taken by lists of places, row label by row label; axes of one row are taken together."""
        rows = dict.fromkeys(slicers[label][1] for label in labels if label in slicers)
        for row in rows:
            assert row is not None
            taken = [p for p, label in enumerate(labels) if label in slicers and slicers[label][1] == row]
            rest = [p for p in range(len(labels)) if p not in taken]
            places = [self.out.positions(slicers[labels[p]][0]) for p in taken]
            if len(taken) == 1:
                source = f"np.take({register.name}, {places[0].name}, axis={taken[0]})"
                labels = [row if p in taken else label for p, label in enumerate(labels)]
            else:
                order = [*taken, *rest]
                turned = register.name
                if order != sorted(order):
                    turned += f".transpose({', '.join(map(str, order))})"
                source = f"{turned}[{', '.join(place.name for place in places)}]"
                labels = [row, *(labels[p] for p in rest)]
            known = {**sizes, row: slicers_length(slicers, row)}
            register = self.out.emit(
                "gather", source, [register, *places], [known[la] for la in labels], labels=signature([labels], labels)
            )
        return register, labels

    def _fold(
        self,
        ready: list[tuple[Register, tuple[Label, ...]]],
        pending: list[Expr | None],
        wanted: Sequence[Label],
        numbers: Mapping[Label, int],
        sizes: Mapping[Label, AnySize],
    ) -> tuple[Register, tuple[Label, ...]]:
        """Contract the operands pair by pair to the labels wanted."""
        operands = [
            self._sum_out(r, p, labels, [other for q, (_, other) in enumerate(ready) if q != place], wanted, sizes)
            for place, ((r, labels), p) in enumerate(zip(ready, pending, strict=True))
        ]
        steps = path(
            [frozenset(labels) for _, _, labels in operands],
            frozenset(wanted),
            numbers,
            [inverse is None for _, inverse, _ in operands],
        )
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

    def _sum_out(
        self,
        register: Register,
        inverse: Expr | None,
        labels: tuple[Label, ...],
        others: Sequence[tuple[Label, ...]],
        wanted: Sequence[Label],
        sizes: Mapping[Label, AnySize],
    ) -> tuple[Register, Expr | None, tuple[Label, ...]]:
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
            self._pairs[key] = (
                self.out.emit(
                    "reduce",
                    source,
                    [register],
                    [sizes[la] for la in kept],
                    labels=signature([labels], kept),
                    flops=self.out.count(register.sizes),
                ),
                (),
            )
        return self._pairs[key][0], None, kept

    def _pair(
        self,
        a: tuple[Register, Expr | None, tuple[Label, ...]],
        b: tuple[Register, Expr | None, tuple[Label, ...]],
        keep: Sequence[Label],
        sizes: Mapping[Label, AnySize],
        last: bool,
    ) -> tuple[Register, None, tuple[Label, ...]]:
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

        def described(
            first: tuple[Register, Expr | None, tuple[Label, ...]],
            second: tuple[Register, Expr | None, tuple[Label, ...]],
        ) -> tuple[object, ...]:
            numbers: dict[Label, int] = {}
            for label in (*first[2], *second[2]):
                numbers.setdefault(label, len(numbers))
            kept = [numbers[la] for la in keep]
            return (
                first[0].name,
                second[0].name,
                *(numbers[la] for la in first[2]),
                "by",
                *(numbers[la] for la in second[2]),
                "to",
                *(kept if ordered else sorted(kept)),
            )

        keys = described(a, b), described(b, a)
        if str(keys[1]) < str(keys[0]):  # the same two operands, whichever is named first
            a, b = b, a
        key = min(keys, key=str)
        names = {label: place for place, label in enumerate(dict.fromkeys((*a[2], *b[2])))}
        back = dict(enumerate(names))
        if key not in self._pairs:
            left, right = Labelled(a[0].name, a[2]), Labelled(b[0].name, b[2])
            source, labels, plain = pair(left, right, keep, lambda label: self.out.size(sizes[label]))
            parts = source.split(" * ") if plain else []
            work = self.out.count(sizes[la] for la in names) * (1 if plain else 2)
            register = self.out.emit(
                "contract",
                source,
                [a[0], b[0]],
                [sizes[la] for la in labels],
                labels=signature([a[2], b[2]], labels),
                flops=work,
                ufunc="np.multiply" if plain else None,
                arguments=tuple(parts),
            )
            self._pairs[key] = (register, tuple(names[la] for la in labels))
        register, order = self._pairs[key]
        return register, None, tuple(back[place] for place in order)

    def _explicit(
        self, operand: tuple[Register, Expr | None, tuple[Label, ...]]
    ) -> tuple[Register, None, tuple[Label, ...]]:
        register, inverse, labels = operand
        return (register if inverse is None else self.dense(inverse).register), None, labels

    def _solve(
        self,
        a: tuple[Register, Expr | None, tuple[Label, ...]],
        b: tuple[Register, Expr | None, tuple[Label, ...]],
        keep: Sequence[Label],
        sizes: Mapping[Label, AnySize],
    ) -> tuple[Register, None, tuple[Label, ...]] | None:
        """An inverse times a vector or matrix, as the solution of a linear system."""
        matrix, inverse, (row, column) = a if a[1] is not None and len(a[2]) == 2 else (a[0], None, (0, 0))
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
        n, m = evaluate(sizes[summed], self.out.sizes), self.out.count(sizes[label] for label in rest)
        labels = (new, *rest)
        register = self.out.emit(
            "apply",
            f"np.linalg.solve({text}, {right})",
            [matrix, b[0]],
            [sizes[la] for la in labels],
            labels="solve",
            flops=2 * n**3 // 3 + 2 * n * n * m,
        )
        return register, None, labels


def slicers_length(slicers: Mapping[Label, tuple[Select, Label | None]], row: Label) -> AnySize:
    """The number of rows that a selection with this row label takes."""
    return next(select.shape[0] for select, its_row in slicers.values() if its_row == row)


def is_truth(node: Expr) -> bool:
    """Whether the entries of a node are true or false."""
    return isinstance(node, Elementwise) and node.record.truth


def add_slicer(slicers: dict[Label, tuple[Select, Label | None]], select: Select, labels: Sequence[Label]) -> bool:
    """Note that `select` takes a slice along a label; a slice of a slice is one slice. False where that is no order."""
    *rows, column = labels
    found: Select | None = select
    row = rows[0] if rows else None
    if row in slicers:
        outer, row = slicers[row]
        found = slice_of_slice(select, outer)
    if found is None or column in slicers or column == row:
        return False
    changed = {
        label: (slice_of_slice(inner, found), row) for label, (inner, between) in slicers.items() if between == column
    }
    if any(whole is None for whole, _ in changed.values()):
        return False
    slicers[column] = (found, row)
    slicers.update(changed)  # type: ignore[arg-type]
    return True
