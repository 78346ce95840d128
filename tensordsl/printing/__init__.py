"""Expressions to trees, one printer for each form."""
