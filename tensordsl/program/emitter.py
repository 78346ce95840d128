"""Emitting instructions: names, sizes as source, scaling. It knows no expression."""

from __future__ import annotations

from cmath import isfinite
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isnan, prod

import numpy as np

from tensordsl.dims import AnySize, evaluate, over_one_line
from tensordsl.expr import Number, Pattern, Select
from tensordsl.functions import routines
from tensordsl.functions.record import ElementwiseRecord, PrimitiveRecord, Routine
from tensordsl.program.instructions import Instruction, Register
from tensordsl.program.kernels import Apply, Arrange, Broadcast, Index, Kernel, Labels, Map, Pack, Places, Product

# What keeps complex numbers complex: arithmetic, which most entry-by-entry steps are, and the common functions.
_KEPT_COMPLEX = (
    *("add", "subtract", "multiply", "divide", "negative", "power", "square", "reciprocal"),
    *("sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
)
COMPLEX_UFUNCS = frozenset(f"np.{name}" for name in _KEPT_COMPLEX)


@dataclass(frozen=True)
class Value:
    """A register that stands for a node: for each of its axes the axis of the node; along the others it is constant."""

    register: Register
    axes: tuple[int, ...]


def literal(value: Number) -> str:
    """The source of a number."""
    if isinstance(value, Fraction) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        value = float(value)
    if isinstance(value, complex):
        return f"complex({literal(value.real)}, {literal(value.imag)})" if not isfinite(value) else f"({value!r})"
    if not isfinite(value):
        return "np.nan" if isnan(value) else "np.inf" if value > 0 else "(-np.inf)"
    return f"({value!r})" if value < 0 else repr(value)


def may_be_real(kernel: Kernel) -> bool:
    """Whether a kernel may make real numbers of complex ones, as an absolute value and eigenvalues are."""
    return isinstance(kernel, Apply) or (isinstance(kernel, Map) and kernel.ufunc not in COMPLEX_UFUNCS)


class Emitter:
    """Collects the instructions of a program."""

    def __init__(
        self,
        names: Mapping[str, str],
        sizes: Mapping[str, int],
        reserved: Iterable[str],
        called: dict[Routine, str],
        dtype: str | None = None,
    ) -> None:
        self.instructions: list[Instruction] = []
        self.constants: dict[str, object] = {}
        self.sizes = sizes
        self.dtype = dtype  # that all data have; None where they have none, and the source is NumPy's alone
        self._names = names  # the variable that holds each dimension
        self._reserved = set(reserved)
        self.called = called  # the names of the routines
        self._texts: dict[AnySize, str] = {}
        self._numbers: dict[AnySize, int] = {}
        self._count = 0
        self._positions: dict[Select, Register] = {}
        self._scales: dict[tuple[str, str], Register] = {}

    @property
    def complex_data(self) -> bool:
        """Whether all data are complex, so that a function of them may be real."""
        return self.dtype is not None and self.dtype.startswith("complex")

    def fresh(self, prefix: str = "t") -> str:
        while True:
            name = f"{prefix}{self._count}"
            self._count += 1
            if name not in self._reserved:
                return name

    def template(self, record: ElementwiseRecord | PrimitiveRecord, arity: int) -> str:
        """The source of a record's function, its routines called by the names that they have in this program."""
        names = {routine.__name__: self.called[routine] for routine in record.routines}
        return record.numpy.format(*(f"{{{place}}}" for place in range(arity)), **names)

    def call(self, routine: Routine) -> str:
        """The name by which the source calls a routine."""
        if routine not in self.called:
            name = routine.__name__
            self.called[routine] = name if name not in self._reserved else self.fresh(name)
            self._reserved.add(self.called[routine])
        return self.called[routine]

    def size(self, size: AnySize) -> str:
        """The source of a size."""
        if size not in self._texts:
            self._texts[size] = self._size(size)
        return self._texts[size]

    def _size(self, size: AnySize) -> str:
        if isinstance(size, int):
            return str(size)
        whole, divisor = over_one_line(size)
        if divisor != 1:
            return f"({self.size(whole)}//{divisor})"
        text = ""
        for monomial, coefficient in size.terms:
            powers = [self._names[n] if p == 1 else f"{self._names[n]}**{p}" for n, p in monomial]
            body = "*".join(powers if abs(coefficient) == 1 and powers else [str(abs(coefficient)), *powers])
            text += (" - " if coefficient < 0 else " + ") + body
        text = text[3:] if text.startswith(" + ") else "-" + text[3:]
        return text if len(size.terms) == 1 else f"({text})"

    def shape(self, sizes: Sequence[AnySize]) -> tuple[str, ...]:
        return tuple(map(self.size, sizes))

    def number(self, size: AnySize) -> int:
        if isinstance(size, int):
            return size
        if size not in self._numbers:
            self._numbers[size] = evaluate(size, self.sizes)
        return self._numbers[size]

    def count(self, sizes: Iterable[AnySize]) -> int:
        return prod(map(self.number, sizes))

    def emit(
        self,
        kernel: Kernel,
        operands: Sequence[Register],
        sizes: Sequence[AnySize],
        *,
        flops: int = 0,
        own_dtype: bool = False,  # a dtype that the operands have not: truth values, or complex of real numbers
    ) -> Register:
        """The register that holds what a kernel makes of its operands."""
        name = self.fresh()
        own_dtype = own_dtype or (self.complex_data and may_be_real(kernel))
        uniform = {r.uniform for r in operands if r.uniform is not None} == {True} and not own_dtype
        root = operands[0].root if kernel.views else name
        target = Register(name, tuple(sizes), root, not kernel.views, uniform)
        moved = 0 if kernel.views else 8 * (self.count(sizes) + sum(self.count(r.sizes) for r in operands))
        self.instructions.append(Instruction(kernel, (target,), tuple(operands), flops, moved))
        return target

    def write(self, kernel: Kernel, buffer: Register, operands: Sequence[Register], entries: int) -> None:
        """Change a buffer in place."""
        self.instructions.append(Instruction(kernel, (buffer,), (buffer, *operands), entries, 16 * entries))

    def map(
        self,
        template: str,
        name: str,
        operands: Sequence[tuple[Register, Labels]],
        output: Labels,
        sizes: Sequence[AnySize],
        *,
        arguments: Sequence[int | str] | None = None,
        ufunc: str | None = None,
        operations: int = 1,
        own_dtype: bool = False,
    ) -> Register:
        """A function entry by entry of operands with labelled axes."""
        places = tuple(range(len(operands)) if arguments is None else arguments)
        kernel = Map(tuple(labels for _, labels in operands), output, template, places, name, ufunc)
        registers = [register for register, _ in operands]
        return self.emit(kernel, registers, sizes, flops=self.count(sizes) * operations, own_dtype=own_dtype)

    def arranged(self, register: Register, labels: Labels, order: Labels) -> Register:
        """A view with the axes in another order, and an axis of size one for each label that it lacks."""
        if labels == order:
            return register
        known = dict(zip(labels, register.sizes, strict=True))
        return self.emit(Arrange((labels,), order), [register], [known.get(label, 1) for label in order])

    def spread(self, register: Register, labels: Labels, order: Labels, sizes: Sequence[AnySize]) -> Register:
        """A view with the axes in order, repeated along the labels that it lacks."""
        if len(labels) == len(order):
            return self.arranged(register, labels, order)
        return self.emit(Broadcast((labels,), order, self.shape(sizes)), [register], sizes)

    def packed(self, register: Register, labels: Labels, order: Labels, sizes: Sequence[AnySize]) -> Register:
        """The same entries in storage of their own."""
        return self.emit(Pack((labels,), order), [register], sizes)

    def slice(self, select: Select) -> str:
        """The key that takes the slice."""
        start = self.size(select.start)
        if select.length is None:
            return start
        if select.length == 0:
            return "0:0"
        if select.step == 1:
            return f"{start}:{self.size(select.start + select.length)}"
        if select.step > 0:
            return f"{start}:{self.size(select.start + (select.length - 1) * select.step + 1)}:{select.step}"
        last = select.start + (select.length - 1) * select.step
        stop = "" if last == 0 else self.size(last - 1)
        return f"{start}:{stop}:{select.step}"

    def positions(self, select: Select) -> Register:
        """The array of positions that a selection takes, made once."""
        assert select.positions is not None and select.length is not None
        found = self._positions.get(select)
        if found is None:
            if isinstance(select.positions, Pattern):
                name, size = select.positions.name, select.positions.size
                source = f"{self.called[getattr(routines, name)]}({self.size(size)})"
                found = self.emit(Places((), (0,), source, name), [], (select.length,), own_dtype=True)
            else:
                constant = self.fresh("p")
                self.constants[constant] = np.asarray(select.positions, dtype=np.int64)
                found = Register(constant, (select.length,), constant, False, None)
            found = self._positions[select] = replace(found, uniform=None)
        return found

    def drop(self, register: Register, present: Sequence[bool]) -> Register:
        """The register without the axes of size one that are not present."""
        if all(present):
            return register
        labels = tuple(range(register.ndim))
        kept = [label for label, there in zip(labels, present, strict=True) if there]
        kernel = Index((labels,), tuple(kept), tuple(":" if there else "0" for there in present))
        return self.emit(kernel, [register], [register.sizes[label] for label in kept])

    def scaled(self, register: Register, coefficient: Number) -> Register:
        """The register times a number, each multiple computed once."""
        if coefficient == 1:
            return register
        key = (register.name, repr(coefficient))
        if key not in self._scales:
            self._scales[key] = self._scale(register, coefficient)
        return self._scales[key]

    def _scale(self, register: Register, coefficient: Number) -> Register:
        labels = tuple(range(register.ndim))
        operands = [(register, labels)]
        if coefficient == -1:
            return self.map("-{0}", "-x", operands, labels, register.sizes, ufunc="np.negative")
        text = literal(coefficient)
        return self.map(
            "{0} * {1}",
            f"{text}*x",
            operands,
            labels,
            register.sizes,
            arguments=(text, 0),
            ufunc="np.multiply",
            own_dtype=isinstance(coefficient, complex),
        )

    def multiply(self, kernel: Product, operands: Sequence[Register], sizes: Sequence[AnySize]) -> Register:
        """The register of a product of two."""
        known = {
            la: s
            for labels, r in zip(kernel.inputs, operands, strict=True)
            for la, s in zip(labels, r.sizes, strict=True)
        }
        work = self.count(known.values()) * (1 if kernel.entrywise else 2)
        if kernel.by_halves:  # four strips of rows, each from the diagonal on: (4 + 3 + 2 + 1) / 16
            work = work * 5 // 8
        return self.emit(kernel, operands, sizes, flops=work)
