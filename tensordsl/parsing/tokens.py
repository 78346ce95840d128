"""LaTeX to tokens: where names begin and end depends on what is declared, so this is no fixed set of patterns.

A run of letters is the longest declared name that it begins with, or else single letters, as it is set. A subscript is
part of a name where the name with it is declared. After `^` and `_`, TeX takes one token or a group.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tensordsl.errors import ParseError, mark
from tensordsl.expr import Expr
from tensordsl.functions.record import elementwise_records, functions, primitive_records
from tensordsl.notation.render import GREEK, GREEK_LETTERS

STYLES = (
    r"\\(?:(?:math(?:rm|bf|bb|bbm|ds|cal|sf|it|tt|frak|scr|normal|op|ord)|text(?:rm|bf|it|sf|up|sl|sc|md|normal)?"
    r"|boldsymbol|bold|bm|pmb|emph|mbox|hbox|sym(?:bf|rm|sf|it|bfup|bfit|bfsf)|vec|underline"
    r"|rm|bf|it|sf|cal|frak|tt)(?![A-Za-z])|operatorname\*?)"
)
ACCENTS = r"\\(?:hat|widehat|tilde|widetilde|bar|overline|dot|check|breve)(?![A-Za-z])"
# A style may hold another one, or an accent.
INNER = rf"[^{{}}]*|\s*(?:{STYLES}|{ACCENTS})\s*(?:\{{[^{{}}]*\}}|[^{{}}]*)\s*"
STYLED = re.compile(STYLES + rf"\s*(?:\{{({INNER})\}}|(\\[A-Za-z]+|[^\s{{}}\\]))")
SWITCHED = re.compile(
    r"\{\s*\\(?:rm|bf|it|sf|cal|frak|tt|bfseries|itshape|rmfamily|boldmath)(?![A-Za-z])" + rf"\s*({INNER})\}}"
)
SWITCH = re.compile(r"\\(?:rm|bf|it|sf|cal|frak|tt)(?![A-Za-z])\s*[A-Za-z]{2}")
ACCENTED = re.compile(rf"({ACCENTS})\s*(?:\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}|(\\[A-Za-z]+|\w))")
COMMAND = re.compile(r"\\([A-Za-z]+\*?|.)", re.DOTALL)
RUN = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
APPLIED = re.compile(r"\s*(?:\\(?:left|[bB]igg?l?)\s*)?[(\[]")
BOLD = re.compile(r"\\(?:mathbf|textbf|boldsymbol|bold|bm|pmb|symbf|bf|bfseries)(?![A-Za-z])")
WORD_BELOW = re.compile(r"\\(max|min|star|ast)(?![A-Za-z])")
CALLED = re.compile(r"\s*(?:\\(?:left|[bB]igg?l?)\s*)?\(")
BELOW = re.compile(r"\s*_")
TWO_BELOW = re.compile(r"\s*_\s*\{\s*[^\s{},]+(?:\s*,|\s+|(?<=[\w]))\s*[^\s{},][^{}]*\}")  # as Kronecker's δ_{ij} has
ABOVE = re.compile(r"\s*\^")
LETTER = re.compile(rf"\s*(?:{STYLES}\{{[^{{}}]*\}}|\\[A-Za-z]+|[^\W\d_])")
TYPED = re.compile(r"\\texttt\s*\{([^{}]*)\}")
POWER_OF_TEN = r"(?:\s*\\(?:cdot|times)\s*10\s*\^\s*\{\s*(?P<ten>[-−]?\d+)\s*\})?"
NUMBER = re.compile(r"(?P<digits>\d+(?:\.\d+)?|\.\d+)" + POWER_OF_TEN + r"(?P<i>\s*\\mathrm\{i\})?")
RATIO = re.compile(r"(\d+)\s*/\s*(\d+)(?![\d.])")
ARGUMENT = re.compile(r"\s*(?:\{((?:[^{}]|\{[^{}]*\})*)\}|(\\[A-Za-z]+|[^\s{}\\]))")
TRANSPOSE = rf"\\top|\\intercal|\\tran(?:spose)?(?![A-Za-z])|{STYLES}\s*(?:\{{\s*[Tt]\s*\}}|T(?![A-Za-z]))|⊤|\\prime"
LETTER_T = re.compile(r"\^\s*(?:t|\{\s*t\s*\})")
LABEL = re.compile(r"\^\s*\{\s*\([^{}()]*\)\s*\}")
RAISED = re.compile(rf"\^\s*(?:\{{(?:\s|\\[!,;:])*(-|−)?(?:\s|\\[!,;:])*({TRANSPOSE}|T)\s*\}}|({TRANSPOSE}|T))")
ADJOINT = rf"\\dagger|{STYLES}\s*(?:\{{\s*H\s*\}}|H(?![A-Za-z]))|H(?![A-Za-z])"
CONJUGATE = re.compile(rf"\^\s*\{{?\s*(?:\\ast|\*|\\star|\+|(?P<adjoint>{ADJOINT}))\s*\}}?")
OPTION = re.compile(r"([A-Za-z]\w*)\s*=(?!=)\s*")
MATRIX = re.compile(r"\\(begin|end)\s*\{([pbvBV]?)(?:small)?(?:matrix|array)\}(?:\{[clr|\s]*\})?")
SPACING = re.compile(
    r"\\(?:[,;:!> ]|(?:quad|qquad|displaystyle|textstyle|scriptstyle|limits|nolimits|thinspace|medspace|negthinspace"
    r"|mathopen|mathclose|mathbin|mathrel|nonumber|enspace|allowbreak)(?![A-Za-z]))|\\(?:hspace|vspace|phantom|label)"
    r"\*?\{[^{}]*\}|[~&]?\s+|~"
)
FENCE = re.compile(r"\\(left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*")
DELIMITER = re.compile(
    r"\\(?:\||[lr]?Vert(?![A-Za-z])|[lr]?vert(?![A-Za-z])|[{}]|[lr]brace(?![A-Za-z])|[lr]brack(?![A-Za-z])"
    r"|[lr]paren(?![A-Za-z])|[lr]angle(?![A-Za-z]))|\|\||[()\[\]|‖]"
)
KINDS = {"norm": ("_LNORM", "_RNORM"), "bar": ("_LBAR", "_RBAR")}
BRACKETS = {
    "(": "_LPAR", "[": "_LBRACK", r"\{": "_LPAR", r"\lbrace": "_LPAR", r"\lbrack": "_LBRACK", r"\lparen": "_LPAR",
    ")": "_RPAR", "]": "_RBRACK", r"\}": "_RPAR", r"\rbrace": "_RPAR", r"\rbrack": "_RBRACK", r"\rparen": "_RPAR",
}  # fmt: skip
OPERATORS = {
    "circ": "∘", "odot": "∘", "otimes": "⊗", "cdot": "·", "times": "×", "ast": "*", "bullet": "*", "div": "/",
    "∘": "∘", "⊙": "∘", "⊗": "⊗", "·": "·", "⋅": "·", "×": "×", "*": "*", "/": "/",
}  # fmt: skip
COMPARISONS = {
    "<": "<", ">": ">", "lt": "<", "gt": ">", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=",
    "geqslant": ">=", "≤": "<=", "≥": ">=", "ne": "!=", "neq": "!=", "≠": "!=",
}  # fmt: skip
OWN = (r"\sqrt", r"\sum", r"\frac")  # read by the grammar, not as functions
VARIANTS = {f"var{name}": name for name in ("epsilon", "theta", "pi", "rho", "sigma", "phi", "kappa")}
ALIASES = {
    "ln": "log",
    "tr": "trace",
    "Tr": "trace",
    "Trace": "trace",
    "sgn": "sign",
    "Diag": "diag",
    "Vec": "vec",
    "ReLU": "relu",
}
REFUSED = {
    "partial": "Derivatives are not written in a text: parse the function, and take td.grad or td.jacobian of it",
    "nabla": "Derivatives are not written in a text: parse the function, and take td.grad or td.jacobian of it",
    "int": "Integrals are not read",
    "prod": r"Products over an index are not read; write the sum of logarithms, or \operatorname{prod}",
    "dots": "Write out what the dots stand for, as a sum over an index",
    "ldots": "Write out what the dots stand for, as a sum over an index",
    "cdots": "Write out what the dots stand for, as a sum over an index",
    "in": "Sums are over whole axes: write \\sum_i or \\sum_{i=1}^n",
}
OPERANDS = frozenset(
    ("NAME", "NUMBER", "RATIO", "ONES", "TEXT", "MARK", "_RPAR", "_RBRACK", "_RBRACE", "_RNORM", "_RBAR", "_END")
)


def squash(text: str) -> str:
    """What a name and its subscripts are told apart by: letters and digits, without braces, styles or underscores."""
    text = re.sub(STYLES + r"(?![A-Za-z])", "", text)
    text = "".join(GREEK_LETTERS.get(character, character) for character in text)
    return re.sub(r"\\([,;:! _])|[\\{}\s,_]", "", text)


def name_of_accented(found: re.Match[str]) -> str:
    return f"{squash(found[2] or found[3])}_{found[1][1:]}"


def named_in_latex() -> list[tuple[str, str]]:
    """How the records of functions are set in LaTeX, the longest first."""
    pattern = re.compile(r"(?:\\[A-Za-z]+(?:\{[^{}]*\})?)+")
    pairs = [(record.latex, record.name) for record in elementwise_records.values()]
    pairs += [(record.latex, record.name) for record in primitive_records.values()]
    found = [(latex, name) for latex, name in pairs if pattern.fullmatch(latex) and latex not in OWN]
    return sorted(found, key=lambda pair: -len(pair[0]))


class Tokens:
    """Reads a text from left to right."""

    def __init__(self, text: str, symbols: Mapping[str, Expr]) -> None:
        self.text = text
        self.symbols = symbols
        self.known = dict(symbols)
        self.keys = {squash(name): name for name in symbols}
        self.tokens: list[Any] = []
        self.fences: list[str] = []
        self.braces = 0
        self.pending: list[list[int]] = []  # TeX arguments that are still to come: at which depth of braces, how many
        self.skipped: dict[int, int] = {}
        self.place = 0
        self.functions = named_in_latex()

    # --- one token after the other --------------------------------------------------------------------------------

    def read(self) -> list[Any]:
        text = self.text
        self.place, stop = self.bounds()
        while self.place < stop:
            self.place = self.skipped.get(self.place, self.place)
            space = SPACING.match(text, self.place)
            if space and text[self.place] != "&":
                self.place = space.end()
            elif self.place < stop:
                self.step()
        return self.tokens

    def bounds(self) -> tuple[int, int]:
        """The text without dollars, display brackets and the full stop of the sentence it was taken from."""
        text = self.text
        start, stop = len(text) - len(text.lstrip()), len(text.rstrip())
        for left, right in (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)")):
            if text.startswith(left, start) and text.endswith(right, start + len(left), stop):
                start, stop = start + len(left), stop - len(right)
                break
        stop = len(text[:stop].rstrip())
        while stop > start and text[stop - 1] in ".,;":
            if text[stop - 2 : stop - 1] == "\\":
                break
            stop -= 1
        return start, stop

    def add(self, kind: str, value: str, start: int, stop: int) -> None:
        import lark

        token = lark.Token(kind, value, start, 1, start + 1, 1, stop + 1, stop)
        self.tokens.append(token)
        self.place = stop
        if kind != "_LBRACE" and self.pending and self.pending[-1][0] == self.braces:
            self.pending[-1][1] -= 1
            if not self.pending[-1][1]:
                self.pending.pop()

    def expect(self, arguments: int) -> None:
        self.pending.append([self.braces, arguments])

    def single(self) -> bool:
        """Whether TeX takes the next token alone."""
        return bool(self.pending) and self.pending[-1][0] == self.braces

    def refuse(self, words: str, start: int, stop: int) -> ParseError:
        return ParseError(f"The text cannot be read here:\n{mark(self.text, start, stop)}\n{words}.")

    def step(self) -> None:
        text, start = self.text, self.place
        character = text[start]
        fence = FENCE.match(text, start)
        if fence:
            side = {"left": "open", "right": "close"}.get(fence[1], {"l": "open", "r": "close"}.get(fence[1][-1], ""))
            delimiter = DELIMITER.match(text, fence.end())
            if not delimiter:
                raise self.refuse(rf"A bracket stands after \{fence[1]}", start, fence.end())
            self.delimiter(delimiter[0], side, start, delimiter.end())
        elif (delimiter := DELIMITER.match(text, start)) is not None:
            self.delimiter(delimiter[0], "", start, delimiter.end())
        elif character == "\\":
            self.command(start)
        elif (switched := SWITCHED.match(text, start)) is not None:
            self.styled(switched[1], text[start : switched.start(1)], start, switched.end())
        elif character in "{}":
            self.brace(character, start)
        elif character == "^":
            self.raised(start)
        elif character == "_":
            self.add("SUB", "_", start, start + 1)
            self.expect(1)
        elif character in "'ᵀ⊤":
            self.add("MARK", "", start, start + 1)
        elif character.isdigit() or character == ".":
            self.number(start)
        elif character in "+-−":
            self.add("SIGN", "+" if character == "+" else "-", start, start + 1)
        elif character in OPERATORS:
            self.add("MULTIPLY", OPERATORS[character], start, start + 1)
        elif character in COMPARISONS:
            self.add("COMPARE", COMPARISONS[character], start, start + 1)
        elif character in ",:&":
            self.add({",": "COMMA", ":": "COLON", "&": "_AMP"}[character], character, start, start + 1)
        elif character == "=":
            if not self.braces:
                raise self.refuse("An equation is no expression: parse one side of it alone", start, start + 1)
            self.add("EQUALS", "=", start, start + 1)
        elif character.isalpha():
            self.letters(start)
        else:
            raise self.refuse("This character has no meaning in a formula here", start, start + 1)

    def brace(self, character: str, start: int) -> None:
        if character == "{":
            below = self.tokens and self.tokens[-1].type == "SUB"
            self.add("_LBRACE", "{", start, start + 1)
            self.braces += 1
            self.fences.append("below" if below else "{")
        else:
            self.braces -= 1
            while self.pending and self.pending[-1][0] > self.braces:
                self.pending.pop()
            if self.fences[-1:] in (["{"], ["below"]):
                self.fences.pop()
            self.add("_RBRACE", "}", start, start + 1)

    def delimiter(self, text: str, side: str, start: int, stop: int) -> None:
        if text in BRACKETS:
            kind = BRACKETS[text]
            if kind.startswith("_L"):
                called = self.tokens and self.tokens[-1].type == "FUNCTION"
                self.fences.append("call" if called else "(")
            elif self.fences[-1:] in (["("], ["call"]):
                self.fences.pop()
            self.add(kind, text, start, stop)
            return
        if text in (r"\langle", r"\rangle"):
            if text == r"\langle":
                self.add("FUNCTION", "langle", start, stop)
            self.fences += ["call"] if text == r"\langle" else []
            self.add("_LPAR" if text == r"\langle" else "_RPAR", text, start, stop)
            return
        if self.fences[-1:] == ["below"]:
            raise self.refuse(
                "The subscript of a name is letters and digits: write P_{prior} for P_{k|k-1}", start, stop
            )
        shape = "bar" if text in ("|", r"\vert", r"\lvert", r"\rvert") else "norm"
        if text.startswith((r"\lV", r"\lv")):
            side = "open"
        elif text.startswith((r"\rV", r"\rv")):
            side = "close"
        ended = bool(self.tokens) and self.tokens[-1].type in OPERANDS
        close = side == "close" or (not side and self.fences[-1:] == [shape] and ended)
        directed = f"left {shape}"  # what \left\| opens, no bare \| closes
        if close and self.fences[-1:] in ([shape], [directed]):
            self.fences.pop()
        elif not close:
            self.fences.append(directed if side else shape)
        self.add(KINDS[shape][close], text, start, stop)

    def raised(self, start: int) -> None:
        """What stands above: a transpose is a token of its own."""
        found = RAISED.match(self.text, start)
        letter = found is not None and (found[2] or found[3]) == "T"
        if found and not (letter and "T" in self.symbols and not self.symbols["T"].ndim):
            self.add("MARK", "-" if found[1] else "", start, found.end())
            return
        conjugate = CONJUGATE.match(self.text, start)
        if conjugate and not ("H" in conjugate[0] and "H" in self.symbols):
            adjoint = "The conjugate transpose is no part of this language, whose derivatives are real"
            words = adjoint if conjugate["adjoint"] else "This is not read"
            words += r": write ^\top for the transpose, \operatorname{pinv}(A) for the pseudo-inverse"
            raise self.refuse(words, start, start + len(conjugate[0].rstrip()))
        label = LABEL.match(self.text, start)
        if label:
            raise self.refuse("A number in parentheses is a label, no power: write it below", start, label.end())
        power = LETTER_T.match(self.text, start)
        if power and "t" not in self.symbols and not (self.tokens and self.tokens[-1] in ("e", "exp")):
            words = r"x^t may be a transpose or a power: write ^\top for the transpose, or declare t as a number"
            raise self.refuse(words, start, power.end())
        self.add("SUP", "^", start, start + 1)
        self.expect(1)

    def number(self, start: int) -> None:
        text = self.text
        below = self.tokens and self.tokens[-1].type == "SUB"
        in_subscript = len(self.tokens) > 1 and [token.type for token in self.tokens[-2:]] == ["SUB", "_LBRACE"]
        if text[start].isdigit() and (self.single() or below or (in_subscript and text[start] == "0")):
            self.add("NUMBER", text[start], start, start + 1)
            if in_subscript:  # the positions 0 and 1, as in A_{01}
                while text[self.place : self.place + 1].isdigit():
                    self.add("NUMBER", text[self.place], self.place, self.place + 1)
            return
        divided = self.tokens and (self.tokens[-1].type, self.tokens[-1]) == ("MULTIPLY", "/")
        ratio = RATIO.match(text, start)
        if ratio and not divided:
            self.add("RATIO", f"{ratio[1]}/{ratio[2]}", start, ratio.end())
            return
        found = NUMBER.match(text, start)
        if not found:
            raise self.refuse("A number has digits", start, start + 1)
        value = found["digits"] + (f"e{found['ten'].replace('−', '-')}" if found["ten"] else "")
        self.add("NUMBER", value + ("j" if found["i"] else ""), start, found.end())

    # --- names ----------------------------------------------------------------------------------------------------

    def letters(self, start: int) -> None:
        text = self.text
        if self.single() or self.fences[-1:] == ["below"]:  # an index is one letter
            self.name(text[start], start, start + 1, subscript=not self.single())
            return
        option = OPTION.match(text, start) if self.fences[-1:] == ["call"] else None
        if option and self.tokens[-1].type in ("COMMA", "_LPAR"):
            self.add("OPTION", option[1], start, option.end())
            return
        found = RUN.match(text, start)
        run = found[0] if found else text[start]
        for length in range(len(run), 1, -1):
            if run[:length] in self.symbols:
                self.name(run[:length], start, start + length)
                return
        word = run.rstrip("0123456789") if run not in functions else run
        called = len(word) > 1 and CALLED.match(text, start + len(word))
        function = ALIASES.get(word, word)
        if called and function in functions and not all(letter in self.symbols for letter in word):
            self.add("FUNCTION", function, start, start + len(word))
            return
        if len(run) > 1 and run[1].isdigit():
            raise self.refuse(
                f"A digit follows the letter {run[0]}: write {run[0]}_{run[1]} for a name, "
                f"{run[0]}^{run[1]} for a power",
                start,
                start + 2,
            )
        self.name(text[start], start, start + 1)

    def name(self, base: str, start: int, stop: int, subscript: bool = True) -> None:
        """A name, with its subscript where that is declared."""
        for above, below, end in self.subscripts(stop) if subscript else ():
            declared = self.keys.get(squash(base) + squash(self.text[below:end].lstrip(" _")))
            if declared is not None:
                self.skipped[below] = end  # where a power stands between, as in \Sigma^{-1}_{xy}
                self.add("NAME", declared, start, stop if above else end)
                return
        declared = base if base in self.symbols else self.keys.get(squash(base))
        self.add("NAME", declared or GREEK_LETTERS.get(base, base), start, stop)

    def subscripts(self, place: int) -> list[tuple[bool, int, int]]:
        """Where a subscript stands: directly after a name, or after its power."""
        direct = BELOW.match(self.text, place)
        if direct:
            found = ARGUMENT.match(self.text, direct.end())
            return [(False, place, found.end())] if found else []
        power = ABOVE.match(self.text, place)
        above = ARGUMENT.match(self.text, power.end()) if power else None
        later = BELOW.match(self.text, above.end()) if above else None
        found = ARGUMENT.match(self.text, later.end()) if later else None
        return [(True, above.end(), found.end())] if above and found else []

    def command(self, start: int) -> None:
        text = self.text
        matrix = MATRIX.match(text, start)
        if matrix:
            self.add("BEGIN" if matrix[1] == "begin" else "_END", matrix[2], start, matrix.end())
            return
        if text.startswith(r"\\", start):
            self.add("_ROW", r"\\", start, start + 2)
            return
        typed = TYPED.match(text, start)
        if typed:
            self.add("TEXT", f'"{typed[1]}"', start, typed.end())
            return
        if self.below_name(start) or self.function(start):
            return
        accented = ACCENTED.match(text, start)
        if accented:
            self.name(name_of_accented(accented), start, accented.end())
            return
        if SWITCH.match(text, start):
            raise self.refuse(r"How far a change of style goes is said by braces: {\rm tr}", start, start + 3)
        styled = STYLED.match(text, start)
        if styled and not (styled[0].startswith(r"\vec") and styled[2] == "("):
            self.styled(styled[2] if styled[1] is None else styled[1], styled[0], start, styled.end())
            return
        found = COMMAND.match(text, start)
        if found is None:
            raise self.refuse("A command follows a backslash", start, start + 1)
        word, stop = found[1], found.end()
        if word in OPERATORS:
            self.add("MULTIPLY", OPERATORS[word], start, stop)
        elif word in COMPARISONS:
            self.add("COMPARE", COMPARISONS[word], start, stop)
        elif word in ("frac", "tfrac", "dfrac", "cfrac"):
            self.add("FRAC", word, start, stop)
            self.expect(2)
        elif word == "sqrt":
            self.add("SQRT", word, start, stop)
            if not text[stop : stop + 9].lstrip().startswith("["):
                self.expect(1)
        elif word == "sum":
            self.add("SUM", word, start, stop)
        elif word == "infty":
            self.add("NAME", "inf", start, stop)
        elif word in REFUSED:
            raise self.refuse(REFUSED[word], start, stop)
        elif word in ("top", "intercal", "prime"):
            raise self.refuse(rf"A transpose stands above: write x^\{word}", start, stop)
        elif ALIASES.get(word, word) in functions and squash(word) not in self.keys and word not in GREEK:
            self.add("FUNCTION", ALIASES.get(word, word), start, stop)
        elif VARIANTS.get(word, word) in GREEK or word in ("ell", "imath", "jmath"):
            name = word if word in self.symbols else VARIANTS.get(word, word)
            if name == "delta" and "delta" not in self.keys and TWO_BELOW.match(text, stop):
                self.add("NAME", "δ", start, stop)
            else:
                self.name(name, start, stop)
        else:
            raise self.refuse(rf"The command \{word} is not read", start, stop)

    def below_name(self, start: int) -> bool:
        """What is a function elsewhere, or a sign, is part of a name below it: `\\lambda_{\\max}`, `x_\\star`."""
        found = WORD_BELOW.match(self.text, start)
        if found is None or not (self.single() or self.fences[-1:] == ["below"]):
            return False
        sign = found[1] in ("star", "ast")
        self.add("MULTIPLY" if sign else "NAME", "*" if sign else found[1], start, found.end())
        return True

    def function(self, start: int) -> bool:
        """A function as the library sets it: `\\log\\det`, `\\sigma` before parentheses."""
        for latex, name in self.functions:
            stop = start + len(latex)
            if not self.text.startswith(latex, start) or self.text[stop : stop + 1].isalpha():
                continue
            letter = latex[1:]
            if letter in GREEK or letter in REFUSED:  # \prod(x), but not \prod_i
                called = CALLED.match(self.text, stop)
                if not called or letter in self.keys:
                    continue
            self.add("FUNCTION", name, start, stop)
            return True
        return False

    def styled(self, content: str, style: str, start: int, stop: int) -> None:
        """`\\mathbf{x}` is x; a word in roman type is a declared name, or a function, or a name."""
        accented = ACCENTED.fullmatch(content.strip())
        if accented:
            self.name(name_of_accented(accented), start, stop)
            return
        word = re.sub(STYLES + r"|[{}\s]", "", content).replace(r"\_", "_")
        if word in ("1", "0"):
            self.add("ONES" if word == "1" else "NUMBER", word, start, stop)
        elif word == "d" and (differential := self.differential(stop)) is not None:
            self.add("NAME", differential[0], start, differential[1])
        elif word in self.symbols:
            self.name(word, start, stop)
        elif word.startswith("\\"):
            self.name(squash(word), start, stop)
        elif len(word) > 1 and ALIASES.get(word, word) in functions:
            self.add("FUNCTION", ALIASES.get(word, word), start, stop)
        elif word == "d" and "mathrm" in style and LETTER.match(self.text, stop):
            words = r"The differential \mathrm{d}x is a symbol dx, which is to be declared"
            raise self.refuse(words, start, stop)
        elif word.isalpha() and len(word) > 1 and BOLD.search(style):  # bold is each letter, not a word
            place = start + self.text[start:stop].index(content)
            for at, letter in enumerate(content, place):
                if letter.isalpha():
                    self.name(letter, at, at + 1 if at + 1 < place + len(content.rstrip()) else stop)
        elif word.isidentifier():
            roman = len(word) > 1 and any(name in style for name in ("rm", "text", "mathop"))
            follows = (CALLED if roman else APPLIED).match(self.text, stop)
            if follows and (roman or "operatorname" in style or "bb" in style):
                self.add("FUNCTION", word, start, stop)
            else:
                self.name(word, start, stop)
        else:
            raise self.refuse("A name is letters and digits", start, stop)

    def differential(self, place: int) -> tuple[str, int] | None:
        r"""`\mathrm{d}x` is the symbol dx, where it is declared."""
        letter = LETTER.match(self.text, place)
        if letter is None:
            return None
        for _, _, end in [*self.subscripts(letter.end()), (False, 0, letter.end())]:
            name = self.keys.get("d" + squash(self.text[place:end]))
            if name is not None:
                return name, end
        return None
