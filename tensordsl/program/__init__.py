"""From expressions to a straight-line program: contraction paths, sharing, costs, and the NumPy source that runs."""
