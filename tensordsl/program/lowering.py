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
from tensordsl.program.assembly import assemble, union
from tensordsl.program.emitter import Emitter, Value, literal
from tensordsl.program.instructions import Register, Term
from tensordsl.program.kernels import Apply, Diagonal, Full, Gather, Index, Labels, Reshape, Total, align, product
from tensordsl.program.paths import path
from tensordsl.rewrites.factors import take_out_common_factors
from tensordsl.selections import slice_of_slice


class Lowering:
    """Builds the instructions for some expressions."""

    def __init__(self, arguments: Mapping[Symbol, str], out: Emitter) -> None:
        self.out = out
        self._values: dict[Expr, Value] = {}
        self._counted: dict[tuple[Expr, str], Value] = {}
        self._cores: dict[tuple[Expr, bool], Term] = {}
        self._pairs: dict[object, tuple[Register, tuple[int, ...]]] = {}
        self._inverse_uses: dict[Expr, int] = {}
        self._multiples: set[object] = set()  # products that are computed once for several coefficients
        for symbol, name in arguments.items():
            self._values[symbol] = Value(Register(name, symbol.shape, name, False), tuple(range(symbol.ndim)))

    # --- whole expressions ----------------------------------------------------------------------------------------

    def prepare(self, roots: Sequence[Expr]) -> None:
        """Lower everything below the roots, children first, so that no recursion is deep."""
        order = topological(roots)
        coefficients: dict[object, set[str]] = {}
        for node in order:
            if isinstance(node, Contraction):
                coefficients.setdefault(product_of(node), set()).add(repr(node.coefficient))
                for factor in set(node.factors):
                    if isinstance(factor, Primitive) and factor.record.name == "inv":
                        self._inverse_uses[factor] = self._inverse_uses.get(factor, 0) + 1
            else:
                for child in node.children:
                    if isinstance(child, Primitive) and child.record.name == "inv":
                        self._inverse_uses[child] = self._inverse_uses.get(child, 0) + 2
        self._multiples = {found for found, several in coefficients.items() if len(several) > 1}
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
            # Where something comes before it, a term is subtracted as it is.
            plain = any(not is_structured(child) and not is_negative(child) for child in node.terms)
            return [term for child in node.terms for term in self._summand(child, plain or is_structured(child))]
        return self._summand(node, False)

    def _summand(self, node: Expr, signed: bool) -> list[Term]:
        if isinstance(node, Sum):
            return self.terms(node) if is_structured(node) else self._whole(node)
        if isinstance(node, Contraction):
            return [self._core(node, signed)]
        if isinstance(node, Select):
            labels = (0,) if node.length is None else (0, 1)
            scatter: dict[Label, tuple[Select, Label | None]] = {labels[-1]: (node, None if node.length is None else 0)}
            return [Term(None, (), 1, tuple((la,) for la in labels), dict(enumerate(node.shape)), scatter)]
        return self._whole(node)

    def _whole(self, node: Expr) -> list[Term]:
        value = self.number(node)
        return [Term(value.register, value.axes, 1, tuple((p,) for p in range(node.ndim)), dict(enumerate(node.shape)))]

    def number(self, node: Expr, dtype: str = "np.int16") -> Value:
        """The value as numbers to compute with: truth values count as 0 and 1, as sums of them do.

        In 16 bits they leave the type of floating-point numbers beside them as it is, as truth values do in NumPy.
        """
        value = self.dense(node)
        if not is_truth(node):
            return value
        key = (node, dtype)
        if key not in self._counted:
            register, axes = value.register, value.axes
            template = f"np.positive({{0}}, dtype={dtype})"
            counted = self.out.map(template, "x", [(register, axes)], axes, register.sizes, own_dtype=True)
            self._counted[key] = Value(counted, axes)
        return self._counted[key]

    def dense(self, node: Expr) -> Value:
        """The value as an array."""
        found = self._values.get(node)
        if found is None:
            found = self._values[node] = self._dense(node)
        return found

    def _dense(self, node: Expr) -> Value:
        axes = tuple(range(node.ndim))
        if isinstance(node, Constant):
            name = self.out.fresh("c")
            self.out.constants[name] = node.array
            return Value(Register(name, node.shape, name, False, False), axes)
        if isinstance(node, Elementwise):
            return self._elementwise(node)
        if isinstance(node, Primitive):
            return Value(self._primitive(node), axes)
        if isinstance(node, Sum):
            factored = take_out_common_factors(node)
            if factored is not node:
                return self.dense(factored)
        return assemble(self.out, self.terms(node), node)

    def _primitive(self, node: Primitive) -> Register:
        arguments = [self.full(child) for child in node.children]
        sizes = [evaluate(size, self.out.sizes) for size in node.children[0].shape]
        batch = self.out.count(node.children[0].shape[:-2])
        labels = iter(range(sum(argument.ndim for argument in arguments) + node.ndim))
        kernel = Apply(
            tuple(tuple(next(labels) for _ in range(argument.ndim)) for argument in arguments),
            tuple(labels),
            self.out.template(node.record, len(arguments)),
            node.record.name,
        )
        return self.out.emit(kernel, arguments, node.shape, flops=int(batch * node.record.flops(*sizes)))

    def full(self, node: Expr) -> Register:
        """The value as an array of the full shape."""
        number = number_of(node)
        if isinstance(number, int) and node.ndim:  # ones are floating-point numbers, as np.ones makes them
            kernel = Full((), tuple(range(node.ndim)), str(float(number)), self.out.shape(node.shape))
            return self.out.emit(kernel, [], node.shape)
        value = self.dense(node)
        return self.out.spread(value.register, value.axes, tuple(range(node.ndim)), node.shape)

    def _elementwise(self, node: Elementwise) -> Value:
        values: list[Value] = []
        arguments: list[int | str] = []
        exponent = number_of(node.children[1]) if node.record.name == "power" else None
        for child in node.children:
            constant = number_of(child)
            if constant is not None:
                arguments.append(literal(constant))
            else:
                # A function of truth values is one of the numbers 0 and 1, in full precision.
                whole = is_truth(child) and not node.record.truth and not (node.record.name == "where" and not values)
                arguments.append(len(values))
                values.append(self.number(child, "np.int64") if whole else self.dense(child))
        axes = union(self.out, values, node) if values else ()
        template, name, ufunc = self.out.template(node.record, len(arguments)), node.record.name, node.record.ufunc
        if exponent == -1:
            template, name, ufunc, arguments = "1 / {1}", "1/x", "np.divide", ["1", arguments[0]]
        elif exponent is not None and not isinstance(exponent, complex):
            arguments[1] = literal(float(exponent) if exponent < 0 else exponent)
        register = self.out.map(
            template,
            name,
            [(value.register, value.axes) for value in values],
            axes,
            [node.shape[axis] for axis in axes],
            arguments=arguments,
            ufunc=ufunc,
            operations=node.record.operations if exponent != -1 else 1,
            own_dtype=node.record.truth or any(isinstance(number_of(child), complex) for child in node.children),
        )
        return Value(register, axes)

    # --- contractions ---------------------------------------------------------------------------------------------

    def _core(self, node: Contraction, signed: bool) -> Term:
        """The term of a contraction. Where it is `signed` a coefficient of -1 stays, to be subtracted elsewhere."""
        found = self._cores.get((node, signed))
        if found is None:
            found = self._cores[node, signed] = self._contract(node, signed)
        return found

    def _contract(self, node: Contraction, signed: bool) -> Term:
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
            ready.append(self._operand(number(factor), slots, slicers, sizes))
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
            coefficient not in (1, -1 if signed else 1)
            and product_of(node) not in self._multiples
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
        slots: Groups,
        slicers: Mapping[Label, tuple[Select, Label | None]],
        sizes: Mapping[Label, AnySize],
    ) -> tuple[Register, Labels]:
        """A factor with one axis for each label: groups split, slices and diagonals taken."""
        register = value.register
        groups = [slots[axis] for axis in value.axes]
        register = self.out.drop(register, [len(group) > 0 for group in groups])
        groups = [group for group in groups if group]
        labels = list(flat(tuple(groups)))
        if any(len(group) > 1 for group in groups):
            split = [sizes[label] for label in labels]
            axes = tuple(group[0] if len(group) == 1 else -1 - place for place, group in enumerate(groups))
            register = self.out.emit(Reshape((axes,), tuple(labels), self.out.shape(split)), [register], split)
        if any(label in slicers for label in labels):
            keys, kept, kept_sizes = [], [], []
            for label in labels:
                if label in slicers and slicers[label][0].positions is None:
                    select, row = slicers[label]
                    keys.append(self.out.slice(select))
                    if row is not None:
                        kept.append(row)
                        assert select.length is not None
                        kept_sizes.append(select.length)
                else:
                    keys.append(":")
                    kept.append(label)
                    kept_sizes.append(sizes[label])
            if set(keys) != {":"}:
                whole = tuple(
                    la if key == ":" else -1 - p for p, (la, key) in enumerate(zip(labels, keys, strict=True))
                )
                register = self.out.emit(Index((whole,), tuple(kept), tuple(keys)), [register], kept_sizes)
            labels = kept
            register, labels = self._gather(register, labels, slicers, sizes)
        distinct = tuple(dict.fromkeys(labels))
        if len(distinct) < len(labels):
            register = self.out.emit(Diagonal((tuple(labels),), distinct), [register], [sizes[la] for la in distinct])
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
            gone = tuple(-1 - p if p in taken else label for p, label in enumerate(labels))
            if len(taken) == 1:
                labels = [row if p in taken else label for p, label in enumerate(labels)]
            else:
                labels = [row, *(labels[p] for p in rest)]
            known = {**sizes, row: slicers_length(slicers, row)}
            kernel = Gather((gone, *((-100,) for _ in places)), tuple(labels), tuple(taken))
            register = self.out.emit(kernel, [register, *places], [known[la] for la in labels])
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
        kept = tuple(label for label in labels if label not in lonely)
        key = ("sum", register.name, tuple(labels.index(label) for label in lonely))
        if key not in self._pairs:
            flops = self.out.count(register.sizes)
            found = self.out.emit(Total((labels,), kept), [register], [sizes[la] for la in kept], flops=flops)
            self._pairs[key] = (found, ())
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
            kernel, swapped = product(a[2], b[2], keep)
            operands = [b[0], a[0]] if swapped else [a[0], b[0]]
            labels = kernel.output
            register = self.out.multiply(kernel, operands, [sizes[la] for la in labels])
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
            summed, new, text = column, row, "{0}"
        elif row in b[2] and row not in keep and column not in b[2]:
            summed, new, text = row, column, "{0}.T"
        else:
            return None
        rest = tuple(label for label in b[2] if label != summed)
        if len(rest) > 1 or any(label not in keep for label in rest):
            return None
        right = align("{1}", b[2], [summed, *rest])
        n, m = evaluate(sizes[summed], self.out.sizes), self.out.count(sizes[label] for label in rest)
        labels = (new, *rest)
        kernel = Apply(
            ((-1, -2), tuple(-3 - p for p in range(len(b[2])))), labels, f"np.linalg.solve({text}, {right})", "solve"
        )
        flops = 2 * n**3 // 3 + 2 * n * n * m
        register = self.out.emit(kernel, [matrix, b[0]], [sizes[la] for la in labels], flops=flops)
        return register, None, labels


def slicers_length(slicers: Mapping[Label, tuple[Select, Label | None]], row: Label) -> AnySize:
    """The number of rows that a selection with this row label takes."""
    return next(select.shape[0] for select, its_row in slicers.values() if its_row == row)


def product_of(node: Contraction) -> object:
    """What tells a contraction from others, its coefficient apart."""
    return node.factors, node.slots, node.output, node.sizes


def is_negative(node: Expr) -> bool:
    """Whether a node is the negative of a contraction, whose sign may be taken into a factor."""
    return isinstance(node, Contraction) and node.coefficient == -1 and not is_structured(node)


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
