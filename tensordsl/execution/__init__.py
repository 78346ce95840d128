"""Running programs on arrays: checked data in, dense, sparse or operator values out."""
