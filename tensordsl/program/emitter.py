"""Emitting instructions: names, sizes as source, views, scaling. It knows no expression."""

from __future__ import annotations

from cmath import isfinite
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import isnan

import numpy as np

from tensordsl.dims import AnySize, evaluate, over_one_line
from tensordsl.expr import Number, Pattern, Select
from tensordsl.functions import routines
from tensordsl.functions.record import ElementwiseRecord, PrimitiveRecord, Routine
from tensordsl.program.instructions import Instruction, Register, Term


class Value:
    """A register that stands for a node; on the axes in `ones` it has extent one, to be broadcast."""

    __slots__ = ("ones", "register")

    def __init__(self, register: Register, ones: frozenset[int] = frozenset()) -> None:
        self.register, self.ones = register, ones


def literal(value: Number) -> str:
    """The source of a number."""
    if isinstance(value, Fraction) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        value = float(value)
    if isinstance(value, complex):
        return f"complex({literal(value.real)}, {literal(value.imag)})" if not isfinite(value) else f"({value!r})"
    if not isfinite(value):
        return "np.nan" if isnan(value) else "np.inf" if value > 0 else "(-np.inf)"
    return f"({value!r})" if value < 0 else repr(value)


class Emitter:
    """Collects the instructions of a program."""

    def __init__(
        self,
        names: Mapping[str, str],
        sizes: Mapping[str, int],
        reserved: Iterable[str],
        called: Mapping[Routine, str],
    ) -> None:
        self.instructions: list[Instruction] = []
        self.constants: dict[str, object] = {}
        self.sizes = sizes
        self._names = names  # the variable that holds each dimension
        self._reserved = set(reserved)
        self._called = called  # the names of the routines
        self._count = 0
        self._positions: dict[Select, Register] = {}
        self._scales: dict[tuple[str, str], Register] = {}

    def fresh(self, prefix: str = "t") -> str:
        while True:
            name = f"{prefix}{self._count}"
            self._count += 1
            if name not in self._reserved:
                return name

    def call(self, record: ElementwiseRecord | PrimitiveRecord, arguments: Sequence[str]) -> str:
        """The source of a record's function, its routines called by the names that they have in this program."""
        names = {routine.__name__: self._called[routine] for routine in record.routines}
        return record.numpy.format(*arguments, **names)

    def size(self, size: AnySize) -> str:
        """The source of a size."""
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

    def shape(self, sizes: Sequence[AnySize]) -> str:
        return "(" + "".join(f"{self.size(size)}, " for size in sizes).rstrip(" ") + ")"

    def count(self, sizes: Iterable[AnySize]) -> int:
        total = 1
        for size in sizes:
            total *= evaluate(size, self.sizes)
        return total

    def emit(
        self,
        kind: str,
        source: str,
        operands: Sequence[Register],
        sizes: Sequence[AnySize],
        *,
        labels: str = "",
        flops: int = 0,
        view_of: Register | None = None,
        ufunc: str | None = None,
        arguments: tuple[str, ...] = (),
        own_dtype: bool = False,  # a dtype that the operands have not: truth values, or complex of real numbers
    ) -> Register:
        name = self.fresh()
        uniform = {r.uniform for r in operands if r.uniform is not None} == {True} and not own_dtype
        target = Register(name, tuple(sizes), view_of.root if view_of else name, view_of is None, uniform)
        moved = 0 if view_of else 8 * (self.count(sizes) + sum(self.count(r.sizes) for r in operands))
        self.instructions.append(
            Instruction(kind, target, tuple(operands), source, labels, flops, moved, ufunc, arguments)
        )
        return target

    def view(self, of: Register, source: str, sizes: Sequence[AnySize]) -> Register:
        return of if source == of.name else self.emit("view", source, [of], sizes, view_of=of)

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
                source = f"{self._called[getattr(routines, name)]}({self.size(size)})"
                found = self.emit("gather", source, [], (select.length,), labels=name, own_dtype=True)
            else:
                constant = self.fresh("p")
                self.constants[constant] = np.asarray(select.positions, dtype=np.int64)
                found = Register(constant, (select.length,), constant, False, None)
            found = self._positions[select] = replace(found, uniform=None)
        return found

    def drop(self, register: Register, present: Sequence[bool]) -> Register:
        if all(present):
            return register
        key = ", ".join(":" if there else "0" for there in present)
        sizes = [size for size, there in zip(register.sizes, present, strict=True) if there]
        return self.view(register, f"{register.name}[{key}]", sizes)

    def scaled(self, register: Register, coefficient: Number) -> Register:
        """The register times a number, each multiple computed once."""
        if coefficient == 1:
            return register
        key = (register.name, repr(coefficient))
        if key not in self._scales:
            self._scales[key] = self._scale(register, coefficient)
        return self._scales[key]

    def _scale(self, register: Register, coefficient: Number) -> Register:
        entries = self.count(register.sizes)
        if coefficient == -1:
            return self.emit(
                "map",
                f"-{register.name}",
                [register],
                register.sizes,
                labels="-x",
                flops=entries,
                ufunc="np.negative",
                arguments=(register.name,),
            )
        text = literal(coefficient)
        return self.emit(
            "map",
            f"{text} * {register.name}",
            [register],
            register.sizes,
            labels=f"{text}*x",
            flops=entries,
            ufunc="np.multiply",
            arguments=(text, register.name),
            own_dtype=isinstance(coefficient, complex),
        )

    def scaled_term(self, term: Term) -> Term:
        """The term with its coefficient worked into its core."""
        if term.core is None or term.coefficient == 1:
            return term
        return replace(term, core=self.scaled(term.core, term.coefficient), coefficient=1)
