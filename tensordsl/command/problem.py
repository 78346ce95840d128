"""From the words of a command to expressions: what is given, what is assumed, and what is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tensordsl.calculus import derivative, hessian, jacobian
from tensordsl.command.files import UsageError
from tensordsl.dims import AnySize
from tensordsl.errors import ParseError, TensorDSLError, UnsupportedError, show_shape
from tensordsl.expr import Expr, Symbol
from tensordsl.functions.convert import PROPERTIES, declare
from tensordsl.notation import tree as t
from tensordsl.notation.build import Builder
from tensordsl.parsing.parse import declared, parse, parse_tree
from tensordsl.printing.forms import walk


class Problem(NamedTuple):
    """An expression as given, what is known of its symbols, and its derivative if one is asked for."""

    text: str
    node: Expr
    names: tuple[str, ...]  # those of its symbols
    assumed: tuple[Symbol, ...]  # symbols whose shapes nobody gave
    wrt: Symbol | None
    order: int
    properties: Mapping[str, Sequence[str]]  # what --assume says
    convention: str

    @property
    def result(self) -> Expr:
        """The expression, or its derivative."""
        if self.wrt is None:
            return self.node
        if self.convention == "unconstrained":
            return derivative(self.node, self.wrt, order=self.order)
        if self.order == 1:
            return jacobian(self.node, self.wrt, self.convention)  # type: ignore[no-any-return]
        if self.order == 2 and not self.node.ndim:
            return hessian(self.node, self.wrt, convention=self.convention)  # type: ignore[no-any-return]
        raise UnsupportedError(
            f"--convention {self.convention} is for the first derivative, and for the second of a scalar; given were "
            f"--order {self.order} and an expression of shape {show_shape(self.node.shape)}. Leave it out."
        )

    @property
    def constrained(self) -> bool:
        """Whether what is known of the symbol enters its derivatives, so that one is not read off that before it."""
        known = self.wrt is not None and bool(self.wrt.properties - {"positive"})
        return (known and self.order > 1) or self.convention != "unconstrained"

    @property
    def name(self) -> str:
        """A letter for the expression that no symbol has."""
        return next(name for name in ("F", "G", "H", "Y", "Z", "value") if name not in self.names)

    @property
    def title(self) -> str:
        return self.name if self.wrt is None else derivative_name(self.name, self.wrt.name, self.order)


def derivative_name(top: str, bottom: str, order: int, ascii: bool = False) -> str:
    d = "d" if ascii else "∂"
    power = "" if order == 1 else (f"^{order}" if ascii else str(order).translate(str.maketrans("23456", "²³⁴⁵⁶")))
    return f"{d}{power}{top}/{d}{bottom}{power}"


def split(option: str, items: Sequence[str], example: str) -> dict[str, str]:
    """`NAME=VALUE` words as a mapping."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise UsageError(f"{option} takes NAME=VALUE, as in {option} {example}, not {item!r}.")
        if name in found:
            raise UsageError(f"{option} gives {name} twice: {found[name]!r} and {value!r}. Give it once.")
        found[name] = value.strip()
    return found


KNOWN_OF_SYMBOLS = (*PROPERTIES, "lower", "upper")


def properties_of(items: Sequence[str]) -> dict[str, list[str]]:
    """What `--assume` options say of each symbol."""
    found: dict[str, list[str]] = {}
    for item in items:
        for name, value in split("--assume", [item], "S=symmetric").items():
            for word in value.replace("-", "_").split(","):
                if word.strip() not in KNOWN_OF_SYMBOLS:
                    raise UsageError(f"--assume {item}: expected one of {', '.join(KNOWN_OF_SYMBOLS)}, not {word!r}.")
                found.setdefault(name, []).append(word.strip())
    return found


def assured(symbol: Symbol, words: Sequence[str], given: bool) -> Symbol:
    """A symbol with its properties; a matrix whose shape is not `given` is square where they need it."""
    shape = symbol.shape if given or symbol.ndim != 2 or set(words) <= {"positive"} else symbol.shape[:1] * 2
    triangular = next((word for word in words if word in ("lower", "upper")), None)
    return declare(symbol.name, shape, triangular=triangular, **{word: True for word in words if word in PROPERTIES})


def shapes_of(items: Sequence[str]) -> dict[str, tuple[AnySize, ...]]:
    """Shapes from `--shape` options."""
    found: dict[str, tuple[AnySize, ...]] = {}
    for name, value in split("--shape", items, "A=k,k").items():
        word = next((word for word in map(str.strip, value.strip("()").split(",")) if word in KNOWN_OF_SYMBOLS), None)
        if word is not None:
            raise UsageError(
                f"--shape {name}={value}: {word!r} is no size. Write --shape {name}=k,k --assume {name}={word}."
            )
        try:
            sizes = tuple(
                Builder({}, {}, infer=False).number(parse_tree(size))
                for size in value.strip("()").split(",")
                if size.strip()
            )
            if any(str(size).startswith("-") for size in sizes):
                raise ParseError("A size is not negative.")
            found[name] = sizes
        except TensorDSLError as error:
            raise UsageError(
                f"--shape {name}={value} is no shape: sizes are whole numbers or names, separated by "
                f"commas, as in --shape A=k,3. {str(error).splitlines()[0]}"
            ) from None
    return found


def sizes_of(items: Sequence[str]) -> dict[str, int]:
    """Numbers from `--size` options."""
    found: dict[str, int] = {}
    for name, value in split("--size", items, "k=1000").items():
        digits = value.replace("_", "")
        if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
            raise UsageError(f"--size {name}={value} is no size: expected a whole number, as in --size {name}=1000.")
        found[name] = int(digits)
    return found


def understand(
    text: str,
    wrt: str | None,
    order: int,
    shapes: Mapping[str, tuple[AnySize, ...]],
    dialect: str,
    assume: Sequence[str] = (),
    convention: str = "unconstrained",
) -> Problem:
    """The expression that a text means, with shapes as declared or as its use implies."""
    properties = properties_of(assume)
    known = {name: declared(name, shape) for name, shape in shapes.items()}
    tree = parse_tree(text, dialect, known)
    named = {part.name for part in walk(tree) if isinstance(part, t.Name)}
    for name in (*shapes, *properties):
        if name not in named:
            raise UsageError(
                f"A shape, a property or data is given for {name}, which is not in the expression {text!r}. "
                "Check the spelling."
            )
    node = parse(text, dialect=dialect, infer=True, **known)
    symbols = symbols_of(node, known)
    if properties:
        for name in properties.keys() - symbols.keys():
            raise UsageError(f"The shape of {name} cannot be told from {text!r}. Give it, as in --shape {name}=k,k.")
        known |= {name: assured(symbols[name], words, name in shapes) for name, words in properties.items()}
        node = parse(text, dialect=dialect, infer=True, **known)
        symbols = symbols_of(node, known)
    assumed = tuple(s for name, s in sorted(symbols.items()) if name not in shapes)
    variable = None
    if wrt is not None:
        variable = symbols.get(wrt)
        if variable is None and wrt in named:
            raise UsageError(
                f"The shape of {wrt} cannot be told from {text!r}, which does not depend on it. "
                f"Give it, as in --shape {wrt}=k."
            )
        if variable is None:
            have = ", ".join(sorted(symbols)) or "none at all"
            raise UsageError(f"The expression has no symbol {wrt!r} to differentiate by; its symbols are {have}.")
    if convention != "unconstrained" and (variable is None or "symmetric" not in variable.properties):
        way_out = f"Say that {wrt} is one, as in --assume {wrt}=symmetric" if wrt else "Take a derivative, with --wrt"
        raise UsageError(f"--convention {convention} is for derivatives by a symmetric matrix. {way_out}.")
    return Problem(text, node, tuple(sorted(symbols)), assumed, variable, order, properties, convention)


def symbols_of(node: Expr, known: Mapping[str, Expr]) -> dict[str, Symbol]:
    """The symbols of an expression, and those that were declared though it has lost them."""
    return {s.name: s for s in (*node.symbols, *known.values()) if isinstance(s, Symbol)}
