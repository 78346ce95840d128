"""Text to tree: bounded in length and depth, with a caret under what cannot be read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from functools import cache
from typing import Any

from tensordsl.dims import Dim
from tensordsl.errors import ParseError, TensorDSLError, UnsupportedError, mark
from tensordsl.expr import Expr, symbol
from tensordsl.notation import tree as t
from tensordsl.notation.build import build
from tensordsl.parsing import latex, matlab
from tensordsl.parsing.convert import Convert
from tensordsl.parsing.grammar import GRAMMAR, WORDS
from tensordsl.parsing.tokens import Tokens

LONGEST = 100_000  # characters
DEEPEST = 120  # levels of nesting
DIALECTS = ("numpy", "matrix", "matlab", "latex")
OTHER_NOTATION = re.compile(r"[\\^'′]")
DIALECT_HINT = (
    "\nHere a power is written x**2, an inverse inv(A), a transpose A.T. Texts such as x'*A^-1*x are in the dialect "
    "'matlab', texts such as x^T A^{-1} x in the dialect 'latex': dialect=... in Python, --dialect on the command line."
)
PRODUCTS = {
    "numpy": "; write products with * or @",
    "matlab": "; write products with * or .*",
    "latex": "",
}


def parse(text: str, /, *, dialect: str = "numpy", infer: bool = False, **symbols: Any) -> Expr:
    r"""Text to an expression: `td.parse("A * outer(x, x)", A=(k, k), x=(k,))`; a value is a shape or a symbol, or, for
    the name of a size, `p=td.dim("p")`, which may then stand as a position.

    `dialect="numpy"` has Python's operators, the names of this library with and without `linalg.`, and index notation,
    `"A[i,j]*x[j] -> [i]"`. In the others vectors are columns, and a result of one column is a vector again.

    `"matrix"` is the notation in which matrices are printed, with NumPy's names and their meaning: `exp(A)` goes entry
    by entry, `expm(A)` is the exponential of the matrix, positions count from 0.

    `"matlab"` has MATLAB's operators, functions and positions, and they mean what they mean there: `sum(X)` adds down
    the columns, `norm(X)` is the largest singular value, `exp(X)` goes entry by entry and `expm(X)` does not, `X(:)` is
    vec, positions and dimensions count from 1. To these come the names of matrixcalculus.org, such as `norm2`.

    `"latex"` is LaTeX as it stands in a paper, letters side by side multiplied. What stands below a declared name is an
    index or a position, counted from 0 as everywhere in Python. Below another name it is part of it, so that `x_1` is a
    symbol, unless a sum names it or two factors of a term share it: `A_{ij} x_i x_j` is a sum over i and j. Of a
    matrix, `\exp(A)` and `e^A`, `\log`, `\sqrt` and powers are those of the whole; with `^{\circ}`, as in
    `\exp^{\circ}(A)`, they are of each entry, as all other functions are.

    With `infer`, names without a shape get one from their use: an upper-case name is a matrix, a lower-case name a
    vector, or a scalar where it cannot be a vector. `K` is a symbol; with sizes, `K(m, n)`, it is a commutation matrix.

    Raises `ParseError`, with a caret, for a text that is no expression; nothing in a text is ever evaluated.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> A, x = td.matrix("A", k, k), td.vector("x", k)
    >>> td.parse("A[i,j]*x[j] -> [i]", A=(k, k), x=(k,)) == A @ x
    True
    >>> td.parse("(x @ xᵀ) ∘ A", dialect="matrix", A=A, x=x) == A * td.outer(x, x)
    True
    >>> td.parse("A.*(x*x')", dialect="matlab", A=A, x=x) == A * td.outer(x, x)
    True
    >>> td.parse(r"(xx^\top) \circ A", dialect="latex", A=A, x=x) == A * td.outer(x, x)
    True
    >>> print(td.parse(r"\operatorname{tr}(A^\top X)", dialect="latex", infer=True))
    A[i,j]*X[i,j]
    """
    if not isinstance(dialect, str) or dialect not in DIALECTS:
        raise UnsupportedError(f"The dialect {dialect!r} is unknown; known are {', '.join(map(repr, DIALECTS))}.")
    sizes = {name: value for name, value in symbols.items() if isinstance(value, Dim) and value.name == name}
    known = {name: declared(name, value) for name, value in symbols.items() if name not in sizes}
    tree = parse_tree(text, dialect, known, sizes.keys())
    try:
        return build(tree, known, dialect, infer, sizes)
    except TensorDSLError as error:
        _locate(error, text)
        raise


def _locate(error: TensorDSLError, text: str) -> None:
    """Say in an error where in the text it arose."""
    shown = text if len(text) <= 300 else text[:299] + "…"
    if shown in str(error):
        return
    span = getattr(error, "span", None)
    part = mark(text, *span) if span and span != (0, len(text)) else f"    {shown}"
    placed = _place(text, str(error)) or part
    error.args = (f"{error}\nin the text\n{placed}",)


def declared(name: str, value: Any) -> Expr:
    """A symbol from its shape; an expression as it is."""
    if isinstance(value, Expr):
        return value
    shape = value if isinstance(value, tuple | list) else (value,)
    return symbol(name, *(Dim(size) if isinstance(size, str) else size for size in shape))


def _place(text: str, message: str) -> str | None:
    """The text with a caret under the name that a message quotes."""
    quoted = message.split("'")
    found = re.search(rf"(?<!\w){re.escape(quoted[1])}(?!\w)", text) if len(quoted) > 2 and quoted[1] else None
    return mark(text, *found.span()) if found else None


@cache
def _parser(dialect: str) -> Any:
    import lark

    if dialect == "latex":
        return lark.Lark(latex.GRAMMAR, parser="lalr", maybe_placeholders=True, propagate_positions=True)
    grammar = matlab.GRAMMAR if dialect == "matlab" else GRAMMAR
    return lark.Lark(grammar, parser="lalr", maybe_placeholders=True, propagate_positions=True)


def parse_tree(
    text: str, dialect: str = "numpy", symbols: Mapping[str, Expr] | None = None, positions: Set[str] = frozenset()
) -> t.Tree:
    """The tree of a text. In LaTeX, how a text falls into names depends on the `symbols` that are declared."""
    if not isinstance(text, str):
        raise ParseError(f"A text is expected, not {text!r} ({type(text).__name__}).")
    if not text.strip():
        raise ParseError("The text is empty: expected an expression, such as 'A * outer(x, x)'.")
    if len(text) > LONGEST:
        raise ParseError(
            f"The text has {len(text)} characters; {LONGEST} are read at the most. Split the expression, "
            "and combine the parts in Python."
        )
    level = 0
    for place, character in enumerate(text):
        level += (character in "([{") - (character in ")]}")
        if level > DEEPEST:
            raise ParseError(
                f"The text is nested deeper than {DEEPEST} levels here:\n{mark(text, place)}\n"
                "Give the inner parts names, and combine them in Python."
            )
    convert: Convert
    if dialect == "latex":
        tokens = Tokens(text, symbols or {})
        convert = latex.LatexConvert(tokens.known, positions)
        parsed = _read("latex", text, tokens.read(), latex.WORDS)
    elif dialect == "matlab":
        convert = matlab.MatlabConvert(symbols or {})
        parsed = _read("matlab", text, matlab.separated(text), matlab.WORDS)
    else:
        convert = Convert()
        parsed = _read("numpy", text, text, WORDS)
    try:
        tree = convert.convert(parsed)
        if t.depth(tree, DEEPEST * 4) > DEEPEST * 4:
            raise ParseError(
                f"The text is nested deeper than {DEEPEST * 4} operations. Give the inner parts names, and "
                "combine them in Python."
            )
        tree = convert.settled(parsed, tree)
        convert.check(tree)
    except ParseError as error:
        _locate(error, text)
        raise
    return tree


def _read(dialect: str, text: str, given: Any, words: str) -> Any:
    """What lark makes of a text, or of its tokens; an error shows the place in the text."""
    import lark

    hint = DIALECT_HINT if dialect == "numpy" and OTHER_NOTATION.search(text) else ""
    early = "Something is missing here, such as a closing bracket or an operand."
    try:
        if isinstance(given, str):
            return _parser(dialect).parse(given)
        reader = _parser(dialect).parse_interactive()
        for token in given:
            reader.feed_token(token)
        return reader.feed_eof()
    except lark.exceptions.UnexpectedEOF:
        raise ParseError(f"The text ends too early:\n{mark(text, len(text))}\n{early}") from None
    except lark.exceptions.UnexpectedToken as error:
        if error.token.type == "$END":
            raise ParseError(f"The text ends too early:\n{mark(text, len(text))}\n{early}") from None
        start, stop = error.token.start_pos or 0, error.token.end_pos
        raise ParseError(
            f"The text cannot be read here:\n{mark(text, start, stop or start + len(error.token))}\n"
            f"Expected is an operator, an operand or a closing bracket{PRODUCTS[dialect]}.{hint}"
        ) from None
    except lark.exceptions.UnexpectedCharacters as error:
        raise ParseError(
            f"The text cannot be read here:\n{mark(text, error.pos_in_stream or 0)}\n{words}{hint}"
        ) from None
