"""Symbolic sizes: polynomials in named dimensions, with integer coefficients.

A size is an `int` or a `Size`; arithmetic that ends in a constant gives an `int` back, so the two mix freely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from importlib import import_module
from math import gcd, lcm
from numbers import Number
from operator import index
from typing import Any
from unicodedata import normalize

import numpy as np

from tensordsl.errors import BindError, ParseError, ShapeError

KNOWN = 1 << 12  # texts that are remembered


class Operations(dict[str, Callable[..., Any]]):
    """What expressions can do, by name. The rooms above fill it; some are opened only when they are asked for."""

    def __init__(self) -> None:
        self.rooms: dict[str, str] = {}

    def __missing__(self, name: str) -> Callable[..., Any]:
        import_module(self.rooms.pop(name))
        return self[name]


operations = Operations()

Monomial = tuple[tuple[str, int], ...]  # ((name, power), ...), sorted by name
Rational = int | Fraction


def check_name(name: object, what: str, example: str) -> str:
    """A name in the form in which Python itself reads names (NFKC); `ParseError` for what is none."""
    if not isinstance(name, str) or not name.isidentifier() or "ᵀ" in name or name == "δ":
        raise ParseError(
            f"{name!r} cannot name {what}: a name is letters, digits and underscores, starting with a "
            f"letter, as in {example}."
        )
    return name if name.isascii() else normalize("NFKC", name)


class Size:
    """A polynomial in dimensions, such as `k*m` or `k + 1`; made by arithmetic on `td.dim`.

    Its coefficients are whole, but for sizes such as `k*(k + 1)/2` that are whole whatever k is.

    In arithmetic with expressions a size is the number that it will be.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> (k + 1) * k
    k**2 + k
    >>> print(td.sum(td.vector("x", k)) / k)
    x[i]/k
    """

    __slots__ = ("_hash", "terms")
    __array_ufunc__ = None  # an array beside a size leaves the operation to the size

    def __init__(self, terms: tuple[tuple[Monomial, Rational], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Size, (self.terms,)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Size) and self.terms == other.terms)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for monomial, _ in self.terms for name, _ in monomial)

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, int | Size):
            return _beyond("add", self, other)
        return _collect([*self.terms, *_terms(other)])

    def __radd__(self, other: Any) -> Any:
        return self + other

    def __neg__(self) -> AnySize:
        return _collect([(monomial, -coefficient) for monomial, coefficient in self.terms])

    def __sub__(self, other: Any) -> Any:
        if not isinstance(other, int | Size):
            return _beyond("subtract", self, other)
        return self + other * -1

    def __rsub__(self, other: Any) -> Any:
        return (self * -1) + other

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int | Size):
            return _beyond("multiply", self, other)
        return _collect([(_times(a, b), c * d) for a, c in self.terms for b, d in _terms(other)])

    def __rmul__(self, other: Any) -> Any:
        return self * other

    def __truediv__(self, other: Any) -> Any:
        return _beyond("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _beyond("divide", other, self)

    def __rpow__(self, other: Any) -> Any:
        return _beyond("power", other, self)

    def __pow__(self, power: Any) -> Any:
        if not isinstance(power, int) or power < 0:
            return _beyond("power", self, power)
        result: AnySize = 1
        for _ in range(power):
            result = result * self
        return result

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return _text(self)


@lru_cache(maxsize=KNOWN)
def _text(size: Size) -> str:
    whole, divisor = over_one_line(size)
    if divisor != 1:
        return f"({whole})/{divisor}"
    text = ""
    for monomial, coefficient in size.terms:
        names = [name if power == 1 else f"{name}**{power}" for name, power in monomial]
        magnitude = abs(coefficient)
        body = "*".join(names if magnitude == 1 and names else [str(magnitude), *names])
        text += (" - " if coefficient < 0 else " + ") + body
    return text[3:] if text.startswith(" + ") else "-" + text[3:]


def _beyond(name: str, a: Any, b: Any) -> Any:
    """What is no size any more, such as k/2: there a size is a number in an expression."""
    known = all(isinstance(value, Size | Number | np.ndarray) for value in (a, b))
    return operations[name](a, b) if known and name in operations else NotImplemented


class Dim(Size):
    """A named dimension, made by `td.dim`. Two dimensions of one name are the same dimension.

    >>> import tensordsl as td
    >>> td.dim("k") == td.dim("k")
    True
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        name = check_name(name, "a dimension", "td.dim('k')")
        super().__init__(((((name, 1),), 1),))
        self.name = name

    def __reduce__(self) -> tuple[type[Dim], tuple[str]]:
        return (Dim, (self.name,))


AnySize = int | Size
Shape = tuple[AnySize, ...]


def dim(name: str) -> Dim:
    """A symbolic size: a whole number that the data will give, or its name, `e.evaluate(..., k=5)`.

    Sizes add and multiply with each other and with ints; two of one name are the same size. Raises `ParseError` for a
    name that is no name.

    >>> import tensordsl as td
    >>> k, m = td.dim("k"), td.dim("m")
    >>> td.matrix("A", k, m).shape
    (k, m)
    >>> k * m + 1
    k*m + 1
    """
    return Dim(name)


def dims(names: str) -> tuple[Dim, ...]:
    """Several symbolic sizes, separated by spaces or commas.

    Raises `ParseError` for a name that is no name.

    >>> import tensordsl as td
    >>> k, m = td.dims("k m")
    >>> td.vec(td.matrix("A", k, m)).shape
    (k*m,)
    """
    if not isinstance(names, str):
        raise ParseError(f"{names!r} names no dimensions: expected a text, as in td.dims('k m').")
    return tuple(Dim(name) for name in names.replace(",", " ").split())


def triangle(size: AnySize) -> AnySize:
    """The number of entries on the diagonal of a square matrix and below it, n (n + 1)/2."""
    return over(size * (size + 1), 2)


def over(size: AnySize, divisor: int) -> AnySize:
    """A size over a number that divides it whatever its dimensions are; `ShapeError` where a number is not divided."""
    if isinstance(size, int) and size % divisor:
        raise ShapeError(f"The size {size}/{divisor} is no whole number.")
    return _collect([(monomial, Fraction(c) / divisor) for monomial, c in _terms(size)])


def _terms(size: AnySize) -> tuple[tuple[Monomial, Rational], ...]:
    if isinstance(size, Size):
        return size.terms
    return (((), int(size)),) if size else ()


def _times(a: Monomial, b: Monomial) -> Monomial:
    powers: dict[str, int] = dict(a)
    for name, power in b:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted(powers.items()))


def _collect(terms: Iterable[tuple[Monomial, Rational]]) -> AnySize:
    total: dict[Monomial, Rational] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = sorted(((m, c) for m, c in total.items() if c), key=lambda t: (-sum(p for _, p in t[0]), t[0]))
    if not kept:
        return 0
    if len(kept) == 1:
        monomial, coefficient = kept[0]
        if not monomial:
            return int(coefficient)
        if coefficient == 1 and len(monomial) == 1 and monomial[0][1] == 1:
            return Dim(monomial[0][0])
    return Size(tuple((m, c if isinstance(c, int) or c.denominator > 1 else c.numerator) for m, c in kept))


def whole(value: object) -> int | None:
    """A whole number of any type as an int; None for anything else, truth values too."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_size(size: object) -> AnySize:
    """`size` as a size, or a `ShapeError` that says what a size is."""
    if isinstance(size, Size):
        return size
    number = whole(size)
    if number is None:
        raise ShapeError(f"{size!r} is no size: a size is a whole number that is not negative, or a td.dim.")
    if number < 0:
        raise ShapeError(f"The size {number} is negative: a size is a whole number that is not negative, or a td.dim.")
    return number


def product(sizes: Iterable[AnySize]) -> AnySize:
    result: AnySize = 1
    for size in sizes:
        result = size if isinstance(result, int) and result == 1 else result * size
    return result


def divide(a: AnySize, b: AnySize) -> AnySize | None:
    """The exact quotient a/b by a monomial b, or None where there is none."""
    if a == b:
        return 1
    divisor = _terms(b)
    if len(divisor) != 1:
        return None
    (monomial, scale), quotient = divisor[0], []
    for names, coefficient in _terms(a):
        powers = dict(names)
        for name, power in monomial:
            powers[name] = powers.get(name, 0) - power
        share = Fraction(coefficient) / scale
        whole = isinstance(coefficient, int) and isinstance(scale, int)
        if (whole and share.denominator > 1) or any(power < 0 for power in powers.values()):
            return None
        quotient.append((tuple(sorted((n, p) for n, p in powers.items() if p)), share))
    return _collect(quotient)


def content(size: AnySize) -> tuple[int, AnySize]:
    """The whole number that divides every coefficient of a size, and the size that is left."""
    if isinstance(size, int):
        return size, 1
    if any(isinstance(coefficient, Fraction) for _, coefficient in size.terms):
        return 1, size
    common = gcd(*(int(coefficient) for _, coefficient in size.terms))
    return common, _collect([(monomial, coefficient // common) for monomial, coefficient in size.terms])


@lru_cache(maxsize=KNOWN)
def over_one_line(size: AnySize) -> tuple[AnySize, int]:
    """A size as whole multiples of its dimensions, over one number: k*(k + 1)/2 is (k**2 + k, 2)."""
    divisor = lcm(*(Fraction(c).denominator for _, c in _terms(size)))
    return size * divisor, divisor


def is_at_most(a: AnySize, b: AnySize) -> bool:
    """Whether a ≤ b whatever the dimensions are, which are not negative; False also where that cannot be told."""
    difference = b - a
    return difference >= 0 if isinstance(difference, int) else all(c > 0 for _, c in difference.terms)


def evaluate(size: AnySize, values: Mapping[str, int]) -> int:
    """The number that a size is, given its dimensions."""
    if isinstance(size, int):
        return size
    total: Rational = 0
    for monomial, coefficient in size.terms:
        part = coefficient
        for name, power in monomial:
            part *= values[name] ** power
        total += part
    return int(total)


def substitute(size: AnySize, values: Mapping[str, AnySize]) -> AnySize:
    """`size` with the dimensions named in `values` replaced."""
    if isinstance(size, int) or not (size.names & values.keys()):
        return size
    result: AnySize = 0
    for monomial, coefficient in size.terms:
        factors = [values.get(name, Dim(name)) for name, power in monomial for _ in range(power)]
        parts = _terms(product(factors))
        result = result + _collect([(m, c * coefficient) for m, c in parts])
    return result


def solve(a: AnySize, b: AnySize, unknown: Iterable[str]) -> tuple[str, AnySize] | None:
    """One unknown dimension, and its value, that makes a equal b; None where there is none."""
    difference = _terms(a - b)
    for name in sorted(unknown):
        root = _root(difference, name)
        if root is not None:
            return name, root
        with_it = [(m, c) for m, c in difference if name in dict(m)]
        if not with_it or any(dict(m)[name] != 1 for m, _ in with_it):
            continue
        factor = _collect([(tuple(p for p in m if p[0] != name), c) for m, c in with_it])
        rest = _collect([(m, -c) for m, c in difference if name not in dict(m)])
        value = divide(rest, factor)
        if value is not None and not (isinstance(value, int) and value < 0):
            return name, value
    return None


def _root(difference: tuple[tuple[Monomial, Rational], ...], name: str) -> int | None:
    """The whole number k that solves Σ c k**p = the rest, a number, where all c have one sign."""
    powers = [(dict(m)[name], c) for m, c in difference if tuple(n for n, _ in m) == (name,)]
    rest = [-c for m, c in difference if not m]
    if not powers or max(p for p, _ in powers) < 2 or len(difference) != len(powers) + len(rest):
        return None
    sign, total = (1 if powers[0][1] > 0 else -1), sum(rest)
    if any(c * sign < 0 for _, c in powers) or total * sign < 0:
        return None  # not growing: there may be several
    low, high = 0, 1

    def at(k: int) -> Fraction:
        return sum((Fraction(c) * k**p for p, c in powers), Fraction(0)) * sign

    while at(high) < total * sign:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) >= total * sign else (middle + 1, high)
    return low if at(low) == total * sign else None


def bind(pairs: Iterable[tuple[AnySize, int, str]], known: Mapping[str, int] | None = None) -> dict[str, int]:
    """The values of dimensions that make each size equal its number; `BindError` where two disagree.

    Each pair carries words that say where the number comes from.
    """
    values, origin = dict(known or {}), dict.fromkeys(known or {}, "given by name")
    waiting = list(pairs)
    while waiting:
        later = []
        for size, number, where in waiting:
            unknown = set() if isinstance(size, int) else size.names - values.keys()
            if len(unknown) > 1:
                later.append((size, number, where))
                continue
            if unknown:
                found = solve(substitute(size, dict(values)), number, unknown)
                if found is None or not isinstance(found[1], int):
                    raise BindError(f"{where} is {number}, which no whole {next(iter(unknown))} makes equal to {size}.")
                values[found[0]], origin[found[0]] = found[1], f"{found[1]} in {where}"
            elif evaluate(size, values) != number:
                wanted = evaluate(size, values)
                because = (
                    ""
                    if isinstance(size, int)
                    else "; " + ", ".join(f"{name} is {origin[name]}" for name in sorted(size.names))
                )
                raise BindError(
                    f"{where} is {number}, but {size} = {wanted} was expected{because}. Give arrays whose sizes agree."
                )
        if len(later) == len(waiting):
            break
        waiting = later
    return values
