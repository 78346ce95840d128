"""Lowering: from expressions to instructions, each value computed once.

A contraction becomes a *core*, a dense array with one axis for each label that is bound, computed pair by pair along a
contraction path; what is structure (deltas, ones, groups, scattered slices) stays labels until an array is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations

from tensordsl.contraction import as_operands, contract, is_structured, number_of
from tensordsl.dims import AnySize, evaluate
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Primitive, Select, Sum, Symbol
from tensordsl.facts import is_not_negative, is_symmetric
from tensordsl.graph import topological
from tensordsl.labels import Groups, Label, flat, singles
from tensordsl.program.assembly import assemble, union
from tensordsl.program.emitter import Emitter, Value, literal
from tensordsl.program.instructions import Register, Term
from tensordsl.program.kernels import Apply, Diagonal, Full, Gather, Index, Labels, Reshape
from tensordsl.program.products import Operand, Products
from tensordsl.program.rank import of_low_rank
from tensordsl.program.ufuncs import Step
from tensordsl.program.ufuncs import steps as ufunc_steps
from tensordsl.rewrites.factors import take_out_common_factors
from tensordsl.selections import slice_of_slice

LARGE = 1 << 12  # entries from which a function of several calls is taken apart
COSTLY = {"exp": 10, "log1p": 10, "log": 10, "expm1": 10, "tanh": 10, "power": 20}  # operations for each entry, roughly


class Lowering:
    """Builds the instructions for some expressions."""

    def __init__(self, arguments: Mapping[Symbol, str], out: Emitter) -> None:
        self.out = out
        self._values: dict[Expr, Value] = {}
        self._counted: dict[tuple[Expr, str], Value] = {}
        self._cores: dict[tuple[Expr, bool], Term] = {}
        self._products = Products(out, lambda inverse: self.dense(inverse).register, self._applied_often)
        self._inverse_uses: dict[Expr, int] = {}
        self._roots: dict[str, Register] = {}
        self._results: frozenset[Expr] = frozenset()
        self._needed: set[Expr] = set()  # inverses that must be there as arrays
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
                for factor in node.factors:
                    if is_inverse(factor):
                        self._inverse_uses[factor] = self._inverse_uses.get(factor, 0) + 1
            else:
                self._needed.update(child for child in node.children if is_inverse(child))
        self._multiples = {found for found, several in coefficients.items() if len(several) > 1}
        only_terms: set[Expr] = {child for node in order if isinstance(node, Sum) for child in node.terms}
        only_terms -= {child for node in order if not isinstance(node, Sum) for child in node.children}
        self._results = frozenset(roots)
        for node in order:
            if node in self._results or self._lazy(node) or number_of(node) is not None:
                continue
            if node in only_terms and isinstance(node, Contraction):
                continue
            self.dense(node)

    def _lazy(self, node: Expr) -> bool:
        """An inverse that is used once, in a product, is solved with there instead."""
        return isinstance(node, Select) or self._solvable(node)

    def _solvable(self, node: Expr) -> bool:
        if not is_inverse(node) or node.ndim != 2 or node in self._values or node in self._needed:
            return False
        return self.out.dtype is not None or not self._applied_often(node)  # factors are SciPy's

    def _applied_often(self, inverse: Expr) -> bool:
        return self._inverse_uses.get(inverse, 0) > 1

    def terms(self, node: Expr) -> list[Term]:
        """The value as structured terms."""
        return self._summands(node.terms) if isinstance(node, Sum) else self._summand(node, False)

    def _summands(self, nodes: Sequence[Expr], plain: bool = False) -> list[Term]:
        """The terms of a sum. Where something `plain` comes before it, a term is subtracted as it is."""
        # A sum inside a sum is an array of its own, unless that would be nearly all zeros.
        plain = plain or any(not is_structured(child) and not is_negative(child) for child in nodes)
        return [term for child in nodes for term in self._summand(child, plain or is_structured(child))]

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
            joined, rest = of_low_rank(node, self.out, self.dense)
            return assemble(self.out, [*joined, *self._summands(rest, bool(joined))], node, node in self._results)
        return assemble(self.out, self.terms(node), node, node in self._results)

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
        axes = union(self.out, values, node, node in self._results) if values else ()
        template, name, ufunc = self.out.template(node.record, len(arguments)), node.record.name, node.record.ufunc
        if node.record.name == "sqrt" and values and values[0].axes == axes:
            return Value(self._root(values[0].register, axes), axes)
        # Programs without a dtype may be differentiated where they run, and roots have no derivative at zero.
        power = exponent if self.out.dtype is not None and isinstance(exponent, int | float | Fraction) else 0
        if abs(power) == 1.5 and values[0].axes == axes:
            return Value(self._half_power(values[0].register, axes, power > 0), axes)
        if exponent == -1:
            template, name, ufunc, arguments = "1 / {1}", "1/x", "np.divide", ["1", arguments[0]]
        elif exponent is not None and not isinstance(exponent, complex):
            arguments[1] = literal(float(exponent) if exponent < 0 else exponent)
        sizes = [node.shape[axis] for axis in axes]
        if ufunc is None and not node.record.truth and all(value.register.uniform for value in values):
            calls = ufunc_steps(template, len(arguments)) if self._is_large(sizes) else ()
            if calls:
                return Value(self._called(calls, arguments, values, axes, sizes), axes)
        register = self.out.map(
            template,
            name,
            [(value.register, value.axes) for value in values],
            axes,
            sizes,
            arguments=arguments,
            ufunc=ufunc,
            operations=node.record.operations if exponent != -1 else 1,
            own_dtype=node.record.truth or any(isinstance(number_of(child), complex) for child in node.children),
        )
        return Value(register, axes)

    def _is_large(self, sizes: Sequence[AnySize]) -> bool:
        """Whether an array is worth storage of its own; where the dtype is not known there is none."""
        return self.out.dtype is not None and self.out.count(sizes) >= LARGE

    def _called(
        self,
        calls: Sequence[Step],
        arguments: Sequence[int | str],
        values: Sequence[Value],
        axes: Labels,
        sizes: Sequence[AnySize],
    ) -> Register:
        """A function entry by entry as the ufuncs that it is made of: each writes into storage, and they are fused."""
        made: list[Value] = []
        for call in calls:
            places: list[int | str] = []
            operands: list[Value] = []
            for argument in call.arguments:
                known = arguments[argument] if isinstance(argument, int) and argument < len(arguments) else argument
                if isinstance(known, int):
                    places.append(len(operands))
                    operands.append(values[known] if known < len(arguments) else made[known - len(arguments)])
                else:
                    places.append(known)
            register = self.out.map(
                f"np.{call.name}({', '.join(f'{{{place}}}' for place in range(len(places)))})",
                call.name,
                [(operand.register, operand.axes) for operand in operands],
                axes,
                sizes,
                arguments=places,
                ufunc=f"np.{call.name}",
                operations=COSTLY.get(call.name, 1),
            )
            made.append(Value(register, axes))
        return made[-1].register

    def _half_power(self, register: Register, axes: Labels, above: bool) -> Register:
        """x^(3/2) as x times its root, x^(-3/2) as 1/x by its root: a power takes ten times as long."""
        sizes, x, root = register.sizes, (register, axes), (self._root(register, axes), axes)
        if above:
            return self.out.map("{0} * {1}", "x*y", [x, root], axes, sizes, ufunc="np.multiply")
        inverse = self.out.map("1 / {1}", "1/x", [x], axes, sizes, arguments=("1", 0), ufunc="np.divide")
        return self.out.map("{0} / {1}", "x/y", [(inverse, axes), root], axes, sizes, ufunc="np.divide")

    def _root(self, register: Register, axes: Labels) -> Register:
        """The square root, found once."""
        if register.name not in self._roots:
            made = self.out.map("np.sqrt({0})", "sqrt", [(register, axes)], axes, register.sizes, ufunc="np.sqrt")
            self._roots[register.name] = made
        return self._roots[register.name]

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

        truths = all(is_truth(factor) for factor, _ in others)

        def number(factor: Expr) -> Value:
            return self.number(factor, "np.int64") if truths else self.dense(factor)

        ready: list[Operand] = []
        for factor, slots in others:
            if (
                self._solvable(factor)
                and all(len(group) == 1 for group in slots)
                and slots[0] != slots[1]
                and not (slots[0][0] in slicers or slots[1][0] in slicers)
            ):
                ready.append(Operand(self.full(factor.children[0]), (slots[0][0], slots[1][0]), factor))
            else:
                ready.append(Operand(*self._operand(number(factor), slots, slicers, sizes)))
        bound = {label for operand in ready for label in operand.labels}
        gone = [la for la in sizes if la not in keep and la not in bound and la not in slicers]
        for label in gone:  # summed, but in no factor that has it as an axis: the sum multiplies by its size
            if isinstance(sizes[label], int):
                coefficient = coefficient * sizes[label]
            else:
                text = self.out.size(sizes[label])
                text = text if text.isidentifier() else f"({text})"
                ready.append(Operand(Register(text, (), text, False, None), ()))
        if not ready:
            return Term(None, (), coefficient, output, sizes, scatter)
        wanted = [label for label in keep if label in bound]
        halves = None if slicers or gone else self._halves(others, ready, wanted)
        if halves is not None:
            register, labels = self._products.gram(*halves, wanted, sizes)
            return Term(register, labels, coefficient, output, sizes, scatter)
        stays = coefficient == 1 or (signed and coefficient == -1) or product_of(node) in self._multiples

        def symmetric() -> bool:
            return node.output == singles(wanted) and is_symmetric(node)

        register, labels, left = self._products.fold(ready, wanted, sizes, 1 if stays else coefficient, symmetric)
        return Term(register, labels, coefficient if stays else left, output, sizes, scatter)

    def _halves(
        self, factors: Sequence[tuple[Expr, Groups]], ready: Sequence[Operand], wanted: Sequence[Label]
    ) -> tuple[Operand, list[Operand]] | None:
        """The factor F and the weights w of Σ_m w_m F_mi F_mj, where the weights are known not to be negative."""
        # Roots of whole numbers are none, and those of zero have no derivative where a program is differentiated.
        if self.out.dtype is None or self.out.complex_data or len(wanted) != 2 or len(ready) < 3:
            return None
        for p, q in combinations(range(len(ready)), 2):
            one, other = ready[p], ready[q]
            if one.register != other.register or one.inverse is not None or len(one.labels) != 2:
                continue
            summed = [la for la in one.labels if la in other.labels and la not in wanted]
            if len(summed) != 1 or one.labels.index(summed[0]) != other.labels.index(summed[0]):
                continue
            rest = [place for place in range(len(ready)) if place not in (p, q)]
            weights = [ready[place] for place in rest]
            if any(w.labels != tuple(summed) or w.inverse is not None for w in weights):
                continue
            sizes = dict(zip(one.labels, one.register.sizes, strict=True))
            if is_not_negative(contract(1, [factors[place] for place in rest], singles(summed), sizes)):
                return one, weights
        return None

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


def slicers_length(slicers: Mapping[Label, tuple[Select, Label | None]], row: Label) -> AnySize:
    """The number of rows that a selection with this row label takes."""
    return next(select.shape[0] for select, its_row in slicers.values() if its_row == row)


def product_of(node: Contraction) -> object:
    """What tells a contraction from others, its coefficient apart."""
    return node.factors, node.slots, node.output, node.sizes


def is_negative(node: Expr) -> bool:
    """Whether a node is the negative of a contraction, whose sign may be taken into a factor."""
    return isinstance(node, Contraction) and node.coefficient == -1 and not is_structured(node)


def is_inverse(node: Expr) -> bool:
    return isinstance(node, Primitive) and node.record.name == "inv"


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
