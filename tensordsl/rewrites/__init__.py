"""Rewrites of whole expressions beyond the canonical form: named rules in phases, each saying why it ends."""

from tensordsl.rewrites import algebra, matrices, products, stable, sums
from tensordsl.rewrites.rewriting import PHASES, Rule, rewrite, rules, simplify

__all__ = ["PHASES", "Rule", "algebra", "matrices", "products", "rewrite", "rules", "simplify", "stable", "sums"]
