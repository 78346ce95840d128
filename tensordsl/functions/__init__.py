"""What users call: each function is sugar that returns a contraction, or a record of value, shape and derivative."""
