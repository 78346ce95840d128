"""The language of texts: one tree between parser and printers, one precedence table, one way from tree to expression."""
