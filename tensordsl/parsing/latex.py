"""LaTeX as it is written in papers: a grammar over the tokens of `tokens`, and what its parts mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from tensordsl.errors import ParseError
from tensordsl.expr import Expr
from tensordsl.notation import tree as t
from tensordsl.parsing.convert import Convert, number_of_text
from tensordsl.parsing.subscripts import (
    Bounded,
    axis_of,
    has_size,
    is_index,
    joined,
    letters,
    multiplied,
    names_of,
    paired,
    sizes_of,
    split,
    suffix,
)

GRAMMAR = r"""
start: expression
?expression: sum
           | sum COMPARE sum                                -> compare
sum: [SIGN] product (SIGN product)*
product: term (MULTIPLY term)*
term: item+
item: atom script*
?script: SUB below                                          -> script_below
       | SUP above                                          -> script_above
       | MARK                                               -> script_mark
?below: NAME                                                -> name
      | NUMBER                                              -> number
      | MULTIPLY                                            -> star
      | _LBRACE MULTIPLY [MULTIPLY] _RBRACE                 -> star
      | _LBRACE key (COMMA key)* _RBRACE                    -> keys
key: expression                                             -> plain_key
   | [sum] COLON [sum] [COLON [sum]]                        -> slice_key
   | NAME EQUALS sum                                        -> from_key
?above: NAME                                                -> name
      | NUMBER                                              -> number
      | fraction
      | _LBRACE sum _RBRACE
      | _LBRACE MULTIPLY [sum] _RBRACE                      -> entrywise
      | MULTIPLY                                            -> entrywise
?atom: NUMBER                                               -> number
     | RATIO                                                -> ratio
     | NAME                                                 -> name
     | TEXT                                                 -> text
     | ONES                                                 -> ones
     | FUNCTION                                             -> function
     | SUM                                                  -> summation
     | _LPAR argument (COMMA argument)* [COMMA] _RPAR       -> round
     | _LPAR _RPAR                                          -> round
     | _LBRACK argument (COMMA argument)* _RBRACK           -> square
     | _LBRACE expression _RBRACE                           -> round
     | fraction
     | SQRT braced                                          -> root
     | SQRT _LBRACK expression _RBRACK braced               -> root
     | _LNORM expression _RNORM                             -> norm
     | _LBAR expression _RBAR                               -> bars
     | BEGIN row (_ROW row)* [_ROW] _END                    -> matrix
fraction: FRAC braced braced
?braced: NAME                                               -> name
       | NUMBER                                             -> number
       | _LBRACE expression _RBRACE
row: expression (_AMP expression)*
argument: expression                                        -> positional
        | OPTION expression                                 -> option

%declare SIGN MULTIPLY COMPARE SUB SUP MARK NAME NUMBER RATIO TEXT ONES FUNCTION SUM FRAC SQRT OPTION COMMA COLON EQUALS
%declare BEGIN _END _ROW _AMP _LPAR _RPAR _LBRACK _RBRACK _LBRACE _RBRACE _LNORM _RNORM _LBAR _RBAR
"""
COUNTS = frozenset("kmnpqrs")  # what the sizes of a commutation matrix are called
WORDS = "A formula is made of names, numbers, brackets, operators and known functions."


@dataclass(frozen=True)
class Function:
    name: str


@dataclass(frozen=True)
class Summation:
    pass


@dataclass(frozen=True)
class Group:
    """What stands in parentheses or in square brackets."""

    arguments: tuple[t.Tree, ...]
    options: tuple[tuple[str, t.Tree], ...]
    square: bool

    def tree(self) -> t.Tree:
        if self.options:
            raise ParseError("An option such as axis=0 belongs to a function.")
        if len(self.arguments) == 1:
            return self.arguments[0]
        return t.Items(self.arguments, not self.square)


@dataclass(frozen=True)
class Script:
    """What stands above or below; `raised` has the kinds T, -T, power, entrywise."""

    kind: str
    value: Any = None


@dataclass(frozen=True)
class Item:
    atom: Any
    scripts: tuple[Script, ...]
    span: tuple[int, int] | None


class LatexConvert(Convert):
    """Lark's tree of a formula to ours. `known` are the declared symbols.

    What stands below another name is part of it, unless it is an index. Indices are the letters that a sum or a tensor
    names, that stand below a declared symbol, or below two factors of a term; and the letters beside them. So a text is
    read again until no more of them are found.
    """

    def __init__(self, known: Mapping[str, Expr], positions: Set[str]) -> None:
        self.known = known
        self.positions = positions
        self.indices: Set[str] = frozenset()
        self.tensors: Set[str] = frozenset()  # the names that have indices
        self.trying = False  # whether each letter that may be an index is read as one

    def settled(self, root: Any, tree: t.Tree) -> t.Tree:
        found = self.paired(root, t.axes(tree) | t.indices(tree))
        while True:
            found |= (t.axes(tree) | t.indices(tree)) - self.positions
            tensors = self.tensors | with_indices(tree)
            if (found, tensors) == (self.indices, self.tensors):
                return tree
            self.indices, self.tensors = found, tensors
            tree = self.convert(root)

    def paired(self, root: Any, named: Set[str]) -> Set[str]:
        """The indices that stand in a term twice, though nothing else names them."""
        self.trying = True
        try:
            tree = self.convert(root)
        except ParseError:  # read as indices, they mean nothing
            return frozenset()
        finally:
            self.trying = False
        return paired(tree, named | self.positions | self.sizes_of_commutations(tree))

    def sizes_of_commutations(self, tree: t.Tree) -> Set[str]:
        """The letters that stand below K alone, as in K_{k,k}: sizes of a commutation matrix; i, j, l are indices."""
        if "K" in self.known:
            return frozenset()
        found: dict[bool, set[str]] = {True: set(), False: {"i", "j", "l"}}
        for part in t.walk(tree):
            if isinstance(part, t.Subscript):
                found[part.base == t.Name("K")] |= {name for key in part.keys for name in names_of(key)}
        return found[True] - found[False]

    def is_tensor(self, name: str, keys: Sequence[Any]) -> bool:
        """Whether a name that is not declared has indices below, and no rest of the name."""
        if self.trying and is_index(keys):
            return True
        return name in self.tensors or any(not self.indices.isdisjoint(letters(key)) for key in keys)

    def has_sizes(self, name: str, keys: Sequence[Any]) -> bool:
        """Whether sizes stand below I or K, of which a commutation matrix has two: indices are others than m and n.

        Side by side, as in K_{mn}, only letters that count are sizes: K_{XX} and K_{uf} are names of kernel matrices.
        """
        count = len(sizes_of(split(keys)))
        if count != 2:
            return name == "I"
        if len(keys) == 1 and isinstance(keys[0], t.Product) and not COUNTS.issuperset(letters(keys[0])):
            return False
        return all({"m", "n"}.issuperset(letters(key)) for key in keys) or not self.is_tensor(name, keys)

    def placed(self, made: Any, span: tuple[int, int] | None) -> Any:
        return replace(made, span=span) if isinstance(made, Item) else super().placed(made, span)

    def check(self, tree: t.Tree) -> None:
        """What may be meant in two ways: an index that stands once in a term and is neither summed nor named, and 1."""
        for part in t.walk(tree):
            if isinstance(part, t.Product) and part.operator == "@" and t.Number(1) in part.factors:
                error = ParseError(r"A 1 beside a factor may be a vector of ones: write \mathbf{1}, or 1_n.")
                error.span = part.span  # type: ignore[attr-defined]
                raise error
        stack: list[tuple[t.Tree, tuple[t.Axis, ...]]] = [] if isinstance(tree, t.Arrow) else [(tree, ())]
        stack += [(node.body, node.axes) for node in t.walk(tree) if isinstance(node, t.Arrow)]
        for body, axes in stack:
            named = {name for axis in axes for name in axis.indices} | self.positions
            for term in t.terms(body):
                for name, count in t.free_indices(term).items():
                    if count == 1 and name not in named:
                        raise ParseError(
                            rf"The index {name!r} stands once in a term: write \sum_{name} for the sum over it, "
                            rf"\left[...\right]_{name} for the vector, or give {name}=td.dim({name!r}) for a position."
                        )
                    if name not in named and name in below_wholes(term):
                        raise ParseError(
                            rf"The index {name!r} stands below factors and below parentheses, but no sum names it: "
                            rf"write \sum_{name} for the sum over it, \left[...\right]_{name} for the vector."
                        )

    # --- the parts of an item -------------------------------------------------------------------------------------

    def make_ratio(self, items: list[Any]) -> Any:
        above, _, below = str(items[0]).partition("/")
        return t.Product("/", (number_of_text(above), number_of_text(below)))

    def make_name(self, items: list[Any]) -> Any:
        return t.Name(str(items[0]))

    def make_ones(self, items: list[Any]) -> Any:
        return t.Call("ones", ())

    def make_function(self, items: list[Any]) -> Any:
        return Function(str(items[0]))

    def make_summation(self, items: list[Any]) -> Any:
        return Summation()

    def make_round(self, items: list[Any]) -> Any:
        return self.group(items, False)

    def make_square(self, items: list[Any]) -> Any:
        return self.group(items, True)

    def group(self, items: list[Any], square: bool) -> Group:
        trees = tuple(item for item in items if isinstance(item, t.Tree))
        options = tuple(item for item in items if isinstance(item, tuple))
        return Group(trees, options, square)

    def make_fraction(self, items: list[Any]) -> Any:
        return t.Product("/", (items[1], items[2]))

    def make_root(self, items: list[Any]) -> Any:
        if len(items) == 2:
            return t.Call("sqrt", (items[1],))
        return t.Power(items[2], t.Product("/", (t.Number(1), items[1])), True)

    def make_norm(self, items: list[Any]) -> Any:
        return t.Call("norm", (items[0],))

    def make_bars(self, items: list[Any]) -> Any:
        return t.Call("bars", (items[0],))

    def make_matrix(self, items: list[Any]) -> Any:
        rows = t.Call("rows", tuple(item for item in items[1:] if isinstance(item, t.Tree)))
        if str(items[0]) == "v":
            return t.Call("det", (rows,))
        return t.Call("norm", (rows,)) if str(items[0]) == "V" else rows

    def make_row(self, items: list[Any]) -> Any:
        return t.Items(tuple(items))

    def make_option(self, items: list[Any]) -> Any:
        return str(items[0]), items[1]

    def make_script_below(self, items: list[Any]) -> Any:
        below = items[1]
        return Script("below", below if isinstance(below, tuple) else (below,))

    def make_script_above(self, items: list[Any]) -> Any:
        return items[1] if isinstance(items[1], Script) else Script("power", items[1])

    def make_script_mark(self, items: list[Any]) -> Any:
        return Script("-T" if str(items[0]) else "T")

    def make_entrywise(self, items: list[Any]) -> Any:
        if str(items[0]) != "∘":
            raise ParseError(r"Above stands a number, \top, or \circ and a number for the power of each entry.")
        return Script("entrywise", items[1] if len(items) > 1 else None)

    def make_star(self, items: list[Any]) -> Any:
        return t.Name("*" * sum(item is not None for item in items))

    def make_keys(self, items: list[Any]) -> Any:
        return tuple(item for item in items if isinstance(item, t.Tree | Bounded))

    def make_slice_key(self, items: list[Any]) -> Any:
        parts: list[t.Tree | None] = [None]
        for item in items:
            if item is not None and not isinstance(item, t.Tree):
                parts.append(None)
            elif item is not None:
                parts[-1] = item
        return t.Slice(*(parts + [None] * 3)[:3])

    def make_from_key(self, items: list[Any]) -> Any:
        return Bounded(str(items[0]), items[2])

    def make_item(self, items: list[Any]) -> Any:
        return Item(items[0], tuple(items[1:]), None)

    # --- products -------------------------------------------------------------------------------------------------

    def make_term(self, items: list[Any]) -> Any:
        """Factors side by side, from the right: a function takes the parentheses that follow it or else the factors up
        to the next function; a sum takes all that follows."""
        done: list[tuple[str, Any]] = []  # the last one first
        for item in reversed(items):
            match item.atom:
                case Summation():
                    body = product([self.plain(kind, value) for kind, value in reversed(done)])
                    done = [("call", self.summed(item.scripts, body))]
                case Function(name):
                    arguments, options, scripts = self.taken(name, done)
                    each = Script("entrywise") in item.scripts
                    call = self.scripted(t.Call(name, arguments, options, each), scripts)
                    above = tuple(script for script in item.scripts if script != Script("entrywise"))
                    done.append(("call", self.placed(self.of_function(name, above, call), item.span)))
                case Group():
                    done.append(("group", item))
                case t.Name(name) if is_argument(done) and (found := self.called(name, item.scripts)):
                    raise ParseError(
                        f"{found}(...) may be a function, which is not known, or a product: write the product without "
                        f"parentheses, or declare {found}."
                    )
                case t.Name("K") if "K" not in self.known and not item.scripts and is_pair(done):
                    _, sizes = done.pop()
                    call = t.Call("K", tuple(map(multiplied, sizes.atom.arguments)))
                    done.append(("plain", self.placed(self.scripted(call, sizes.scripts), item.span)))
                case atom:
                    done.append(("plain", self.placed(self.applied(atom, item.scripts), item.span)))
        factors = [self.plain(kind, value) for kind, value in reversed(done)]
        return Term(product(factors), len(factors) > 1)

    def called(self, name: str, scripts: Sequence[Script]) -> str:
        r"""The name before parentheses that is not declared, as in f(x) and \lambda_{max}(A)."""
        plain = [script.kind for script in scripts]
        if name in self.known or (name == "K" and not scripts) or plain not in ([], ["below"]):
            return ""
        found = self.below(t.Name(name), scripts[0].value) if scripts else t.Name(name)
        found = found.base if isinstance(found, t.Subscript) else found
        return found.name if isinstance(found, t.Name) else ""

    def plain(self, kind: str, value: Any) -> t.Tree:
        if kind == "group":
            value = self.placed(self.applied(value.atom, value.scripts), value.span)
        return value  # type: ignore[no-any-return]

    def taken(
        self, name: str, done: list[tuple[str, Any]]
    ) -> tuple[tuple[t.Tree, ...], tuple[tuple[str, t.Tree], ...], tuple[Script, ...]]:
        """What a function is applied to, taken off the factors that follow it."""
        if not done:
            raise ParseError(f"The function {name!r} has no argument here: write it in parentheses.")
        kind, value = done[-1]
        if kind == "group":
            done.pop()
            return value.atom.arguments, value.atom.options, value.scripts
        taken: list[t.Tree] = []
        while done and (not taken or (done[-1][0] != "call" and kind != "call")):
            taken.append(self.plain(*done.pop()))
        return (product(taken),), (), ()

    def of_function(self, name: str, scripts: tuple[Script, ...], call: t.Tree) -> t.Tree:
        """`\\sin^2(x)` is the square of what the function gives."""
        for script in scripts:
            if script.kind == "below":
                raise ParseError(
                    f"What stands below {name!r} is not read: an optimum over a variable is no expression, and a "
                    r"logarithm to the base 2 is \frac{\log a}{\log 2}."
                )
            if script.kind != "power" or script.value == t.Negative(t.Number(1)):
                raise ParseError(f"Only a positive power may stand at the function {name!r}; write it behind instead.")
        return self.scripted(call, tuple(scripts))

    def make_product(self, items: list[Any]) -> Any:
        trees = [item.tree if isinstance(item, Term) else item for item in items]
        for operator, term in zip(items[1::2], items[2::2], strict=True):
            if str(operator) == "/" and term.wide:
                raise ParseError(
                    r"a / b c may mean (a/b) c or a/(b c): write \frac{a}{b} c or \frac{a}{b c}, or parentheses."
                )
        return super().make_product(trees)

    def operator(self, sign: str) -> str:
        return sign

    def summed(self, scripts: tuple[Script, ...], body: t.Tree) -> t.Tree:
        below = [script for script in scripts if script.kind == "below"]
        above = [script.value for script in scripts if script.kind == "power"]
        if len(below) != 1 or len(below) + len(above) != len(scripts):
            raise ParseError(r"A sum names its indices below, as in \sum_{i,j} or \sum_{i=1}^n.")
        keys = split(below[0].value)
        for key in keys:
            if isinstance(key, t.Comparison) and (key.operator != "<" or t.names(key.right) & t.indices(body)):
                raise ParseError(
                    r"A sum goes over whole axes, and not over pairs with i < j or i \neq j: take the sum over i and "
                    r"j, and subtract what does not belong to it."
                )
        if any(isinstance(key, t.Comparison) for key in keys) and not above:
            axes = [axis_of(key) for key in keys]
            return t.SumOver(joined(axes), body)
        names = [key.name for key in keys if isinstance(key, t.Name | Bounded)]
        if len(names) < len(keys) or len(above) > 1:
            raise ParseError(r"A sum names its indices below, as in \sum_{i,j} or \sum_{i=1}^n.")
        size: t.Tree | None = None
        if any(isinstance(key, Bounded) for key in keys) or above:
            first = keys[0]
            if len(keys) > 1 or not isinstance(first, Bounded) or not above:
                raise ParseError(r"The bounds of a sum are written as \sum_{i=1}^n, for one index.")
            if first.start not in (t.Number(0), t.Number(1)):
                raise ParseError(
                    r"A sum goes over a whole axis: write \sum_{i=1}^n, and take a slice of what is summed."
                )
            last = multiplied(above[0])
            size = last if first.start == t.Number(1) else t.Sum(((1, last), (1, t.Number(1))))
        return t.SumOver(t.Axis(tuple(names), (size,) * len(names), False), body)

    # --- what stands above and below ------------------------------------------------------------------------------

    def applied(self, atom: Any, scripts: Sequence[Script]) -> t.Tree:
        """An atom with its scripts; x^2_i is the square of an entry, A^{-1}_{ij} an entry of the inverse."""
        kinds = [script.kind for script in scripts]
        if kinds == ["power", "below"] and not isinstance(scripts[0].value, t.Negative):
            scripts, kinds = scripts[::-1], kinds[::-1]
        if kinds == ["below", "power"] and scripts[1].value == t.Negative(t.Number(1)) and isinstance(atom, t.Name):
            found = self.below(atom, scripts[0].value)
            if isinstance(found, t.Subscript) and not self.trying:
                raise ParseError(
                    r"A_{ij}^{-1} may mean an entry of the inverse or the inverse of an entry: write "
                    r"\left(A^{-1}\right)_{ij} or \frac{1}{A_{ij}}."
                )
        if atom == t.Name("e") and "e" not in self.known and kinds[:1] in (["power"], ["entrywise"]):
            return self.scripted(t.Call("exp", (scripts[0].value,), (), kinds[0] == "entrywise"), scripts[1:])
        if scripts and scripts[0].kind == "below":
            return self.scripted(self.below(atom, scripts[0].value), scripts[1:])
        return self.scripted(atom.tree() if isinstance(atom, Group) else atom, scripts)

    def scripted(self, tree: t.Tree, scripts: Sequence[Script]) -> t.Tree:
        for script in scripts:
            match script:
                case Script("T"):
                    tree = row_of_ones(tree) if isinstance(tree, t.Number) else t.Transpose(tree)
                case Script("-T"):
                    tree = t.Transpose(t.Power(tree, t.Negative(t.Number(1))))
                case Script("power", value):
                    tree = t.Power(tree, value)
                case Script("entrywise", None):
                    raise ParseError(r"Behind the \circ stands the power of each entry: A^{\circ 2}.")
                case Script("entrywise", value):
                    tree = t.Power(tree, value, True)
                case Script("below", keys):
                    tree = t.Subscript(tree, tuple(multiplied(key) for key in split(keys)))
        return tree

    def below(self, atom: Any, keys: Sequence[Any]) -> t.Tree:
        """An index, a position, a size, the order of a norm, the axes of a tensor, or part of a name."""
        if any(isinstance(key, Bounded) for key in keys):
            raise ParseError(r"Bounds such as i=1 stand below \sum alone.")
        match atom:
            case t.Call("norm", (inner,), ()):
                return t.Call("norm", (inner,), self.order_of_norm(keys))
            case t.Call("ones", ()):
                return t.Call("ones", sizes_of(keys))
            case t.Number(0):
                return t.Call("zeros", sizes_of(keys))
            case t.Name("I" | "K" as name) if name not in self.known and self.has_sizes(name, keys):
                sizes = sizes_of(split(keys) if name == "K" else keys)
                if name == "I" and len(sizes) == 2 and sizes[0] == sizes[1]:
                    sizes = sizes[:1]
                return t.Call(name, sizes)
            case t.Name("e") if "e" not in self.known and len(keys) == 1:
                position = multiplied(keys[0])
                return t.Name(f"e_{position.name}") if isinstance(position, t.Name) else t.Call("basis", (position,))
            case t.Number(1):
                return t.Call("ones", sizes_of(keys))
            case t.Name(name) if name not in self.known and name != "δ" and not self.is_tensor(name, keys):
                return t.Name(f"{name}_{''.join(suffix(key) for key in keys)}")
            case Group() as group:
                body, axes = group.tree(), split(keys)
                if group.square and (
                    any(map(has_size, axes)) or {n for axis in axes for n in names_of(axis)} & t.indices(body)
                ):
                    return t.Arrow(body, tuple(axis_of(axis) for axis in axes))
                return t.Subscript(body, tuple(multiplied(axis) for axis in axes))
        parts = split(keys)
        if len(parts) == 1 and isinstance(atom, t.Name) and atom.name in self.known:
            digits = str(parts[0].value) if isinstance(parts[0], t.Number) else ""
            if len(digits) > 1 and len(digits) == self.known[atom.name].ndim:  # A_{12}
                parts = tuple(t.Number(int(digit)) for digit in digits)
        return t.Subscript(atom, tuple(multiplied(part) for part in parts))

    def order_of_norm(self, keys: Sequence[Any]) -> tuple[tuple[str, t.Tree], ...]:
        match tuple(keys):
            case (t.Name("F" | "Fro" | "fro"),):
                return ()
            case (t.Name("*"),):
                return (("ord", t.Text("nuc")),)
            case (t.Name("inf") | t.Number() as order,):
                return (("ord", order),)
        raise ParseError(
            r"Below a norm stands its order: 1, 2, \infty, F for the Frobenius norm, * for the nuclear norm."
        )


def with_indices(tree: t.Tree) -> set[str]:
    """The names that have indices in a tree."""
    return {part.base.name for part in t.walk(tree) if isinstance(part, t.Subscript) and isinstance(part.base, t.Name)}


def below_wholes(tree: t.Tree) -> set[str]:
    r"""The indices below what is computed, as in (\Sigma w)_i: who writes so means an entry, not Einstein's sum."""
    wholes = t.Product | t.Sum | t.Negative
    subscripts = [part for part in t.walk(tree) if isinstance(part, t.Subscript) and isinstance(part.base, wholes)]
    return {key.name for part in subscripts for key in part.keys if isinstance(key, t.Name)}


def is_argument(done: Sequence[tuple[str, Any]]) -> bool:
    """Whether what a function is applied to follows, as in f(x), rather than a factor, as in f(x + y)."""
    group = done[-1][1].atom if done and done[-1][0] == "group" else None
    return (
        group is not None and not group.square and (len(group.arguments) != 1 or isinstance(group.arguments[0], t.Name))
    )


def is_pair(done: Sequence[tuple[str, Any]]) -> bool:
    """Whether two sizes in parentheses follow."""
    return bool(done) and done[-1][0] == "group" and len(done[-1][1].atom.arguments) == 2


def row_of_ones(number: t.Number) -> t.Tree:
    r"""1^\top is a row of ones, 11^\top a matrix of them."""
    if set(str(number.value)) != {"1"}:
        raise ParseError(r"A number has no transpose; a row of ones is \mathbf{1}^\top.")
    ones = t.Call("ones", ())
    return product((*[ones] * (len(str(number.value)) - 1), t.Transpose(ones)))


@dataclass(frozen=True)
class Term:
    """Factors side by side; `wide` where there are several."""

    tree: t.Tree
    wide: bool


def product(factors: Sequence[t.Tree]) -> t.Tree:
    if not factors:
        raise ParseError("A sum has nothing to add here.")
    return t.product("@", factors)
