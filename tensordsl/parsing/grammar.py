"""The grammar of expressions, in the language of lark."""

GRAMMAR = r"""
// The grammar of expressions: the operators of Python and of mathematics, calls, index notation with an arrow.

start: tensor
?tensor: comparison
       | comparison "->" "[" [axis ("," axis)*] "]"        -> arrow
axis: index                                                 -> single
    | "(" [index ("," index)* ","?] ")"                     -> group
index: NAME [":" sum]

?comparison: sum
           | sum COMPARE sum                                -> compare
sum: product (SIGN product)*
?product: unary (MULTIPLY unary)*
?unary: SIGN unary                                          -> signed
      | power
?power: postfix
      | postfix "**" unary
?postfix: atom
        | postfix TRANSPOSE                                 -> transpose
        | postfix INVERSE                                   -> inverse
        | postfix "[" key ("," key)* ","? "]"               -> subscript
?atom: NUMBER                                               -> number
     | NAME                                                 -> name
     | STRING                                               -> text
     | FUNCTION [argument ("," argument)* ","?] ")"         -> call
     | SUM "[" index ("," index)* "]" "(" sum ")"         -> sum_over
     | "(" tensor_inside ")"
     | "(" sum "," [sum ("," sum)* ","?] ")"                -> tuple
     | "[" [sum ("," sum)* ","?] "]"                        -> list
?tensor_inside: tensor
argument: NAME "=" comparison                               -> option
        | tensor                                            -> positional
key: sum                                                    -> plain_key
   | [sum] ":" [sum] [":" [sum]]                            -> slice_key

SUM.2: /sum(?=\s*\[)/
FUNCTION.3: /(np\.|td\.)?(linalg\.)?[^\W\dᵀ][^\Wᵀ]*\s*\(/
TRANSPOSE: "ᵀ" | ".T" | "^T" | "^⊤" | "⊤"
INVERSE: "⁻¹" | "⁻ᵀ" | "⁻⊤"
COMPARE: ">=" | "<=" | ">" | "<" | "==" | "!="
MULTIPLY: "*" | "/" | "@" | "∘" | "⊙" | "⊗" | "·"
SIGN: "+" | "-" | "−"
NUMBER: /(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?j?/
NAME: /[^\W\dᵀ][^\Wᵀ]*/
STRING: /"[^"\n]*"/ | /'[^'\n]*'/
%import common.WS
%ignore WS
"""
WORDS = (
    "An expression is made of names, numbers, + - * / ** @ ∘ ⊗ ᵀ, brackets and known functions; "
    "attributes other than .T do not exist in it."
)
