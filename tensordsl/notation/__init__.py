"""The language of texts: one tree between parser and printers, one precedence table, one way to an expression."""
