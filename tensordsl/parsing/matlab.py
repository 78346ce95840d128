"""MATLAB's notation, also that of matrixcalculus.org: `*` is the matrix product, `.*` goes entry by entry."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from tensordsl.notation import tree as t
from tensordsl.parsing.convert import Convert

GRAMMAR = r"""
start: expression
?expression: sum
           | sum COMPARE sum                                -> compare
sum: product (SIGN product)*
?product: unary (MULTIPLY unary)*
?unary: SIGN unary                                          -> signed
      | postfix
?postfix: atom
        | postfix TRANSPOSE                                 -> transpose
        | postfix POWER exponent                            -> power
?exponent: atom
         | SIGN exponent                                    -> signed
?atom: NUMBER                                               -> number
     | NAME                                                 -> name
     | FUNCTION [key ("," key)*] ")"                        -> call
     | "(" expression ")"
     | "[" row (";" row)* ";"? "]"                          -> rows
     | "[" "]"                                              -> rows
row: expression ("," expression)* ","?
?key: expression
    | ":"                                                   -> everything
    | sum ":" sum                                           -> range
    | sum ":" sum ":" sum                                   -> stepped
    | STRING                                                -> text

FUNCTION.3: /[^\W\dᵀ][^\Wᵀ]*\s*\(/
TRANSPOSE: ".'" | "'" | "ᵀ" | "^⊤" | "⊤"
COMPARE: ">=" | "<=" | ">" | "<" | "==" | "~="
MULTIPLY: ".*" | "./" | ".\\" | "*" | "/" | "\\" | "∘" | "⊙" | "⊗" | "·"
POWER: ".^" | "^"
SIGN: "+" | "-" | "−"
NUMBER: /(\d+(\.(?![*\/\\^'])\d*)?|\.\d+)([eE][+-]?\d+)?[ij]?(?!\w)/
NAME: /[^\W\dᵀ][^\Wᵀ]*/
STRING: /"[^"\n]*"/ | /'[^'\n]*'/
%import common.WS
%ignore WS
"""
WORDS = (
    "An expression of MATLAB is made of names, numbers, + - * / \\ ^ and .* ./ .^, the transpose ', brackets and known "
    "functions; of an assignment, parse the right side."
)
OPERATORS = {"*": "@", "·": "@", ".*": "∘", "⊙": "∘", "./": "/", "/": "//"}
# A space in a matrix separates two entries, unless an operator stands beside it: [1 -2] has two, [1 - 2] one.
ENDS = re.compile(r"[\w)\].'ᵀ⊤]$")
BEGINS = re.compile(r"[\w(\[.]|[+−-](?=\S)")
UNREAD = re.compile(r"%[^\n]*|\.\.\.[^\n]*\n?|[;\s]+\Z")  # comments, the ends of lines that go on, of statements


def separated(text: str) -> str:
    """The text with commas and semicolons for the spaces and line ends that separate entries; each in its place."""
    text = UNREAD.sub(lambda found: " " * len(found[0]), text)
    out = list(text)
    open_brackets: list[str] = []
    place = 0
    while place < len(text):
        character = text[place]
        if character in "([":
            open_brackets.append(character)
        elif character in ")]" and open_brackets:
            open_brackets.pop()
        elif character.isspace() and open_brackets[-1:] == ["["]:
            stop = place
            while stop < len(text) and text[stop].isspace():
                stop += 1
            if ENDS.search(text[max(place - 1, 0) : place]) and BEGINS.match(text, stop):
                dotted = text[stop] == "." and not text[stop + 1 : stop + 2].isdigit()
                if not dotted:
                    out[place] = ";" if "\n" in text[place:stop] else ","
            place = stop - 1
        place += 1
    return "".join(out)


class MatlabConvert(Convert):
    """What is called is a function, or one of the declared symbols, of which entries are taken."""

    def __init__(self, symbols: Collection[str] = ()) -> None:
        self.symbols = symbols

    def operator(self, sign: str) -> str:
        return OPERATORS.get(sign, sign)

    def make_product(self, items: list[Any]) -> Any:
        turned: list[Any] = [items[0]]
        for operator, factor in zip(items[1::2], items[2::2], strict=True):
            if str(operator) == ".\\":  # a .\ b is b ./ a
                turned = [factor, "./", super().make_product(turned)]
            else:
                turned += [operator, factor]
        return super().make_product(turned)

    def make_call(self, items: list[Any]) -> Any:
        call = super().make_call(items)
        if call.function in self.symbols:
            return t.Subscript(t.Name(call.function), call.arguments)
        return call

    def make_number(self, items: list[Any]) -> Any:
        return super().make_number([str(items[0]).replace("i", "j")])

    def make_power(self, items: list[Any]) -> Any:
        return t.Power(items[0], items[2], str(items[1]) == ".^")

    def make_transpose(self, items: list[Any]) -> Any:
        return t.Transpose(items[0])

    def make_compare(self, items: list[Any]) -> Any:
        return t.Comparison("!=" if str(items[1]) == "~=" else str(items[1]), items[0], items[2])

    def make_rows(self, items: list[Any]) -> Any:
        return t.Call("rows", tuple(items))

    def make_row(self, items: list[Any]) -> Any:
        return t.Items(tuple(items))

    def make_everything(self, items: list[Any]) -> Any:
        return t.Slice(None, None, None)

    def make_range(self, items: list[Any]) -> Any:
        return t.Slice(items[0], items[1], None)

    def make_stepped(self, items: list[Any]) -> Any:
        return t.Slice(items[0], items[2], items[1])
