"""Texts to trees to expressions. The parser evaluates nothing: a text is names, numbers, operators, known functions."""

from tensordsl.parsing.parse import parse, parse_tree

__all__ = ["parse", "parse_tree"]
