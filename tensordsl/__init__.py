"""Tensor algebra: derivatives by rule, readable in every notation, computed without losing their structure."""

from tensordsl.derivatives import (
    derivative,
    differential,
    grad,
    hessian,
    hvp,
    jacobian,
    jacobian_matrix,
    jvp,
    vjp,
)
from tensordsl.dims import Dim, Size, dim, dims
from tensordsl.errors import (
    BindError,
    DerivativeError,
    ParseError,
    PlanError,
    ShapeError,
    TensorDSLError,
    UnsupportedError,
)
from tensordsl.execution.check import check_derivative
from tensordsl.execution.compiled import compile
from tensordsl.expr import Expr
from tensordsl.functions.convert import (
    basis,
    constant,
    identity,
    matrix,
    ones,
    scalar,
    tensor,
    vector,
    zeros,
)
from tensordsl.functions.elementwise import abs_ as abs
from tensordsl.functions.elementwise import (
    cos,
    divide,
    exp,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    power,
    sigmoid,
    sign,
    sin,
    sqrt,
    tanh,
)
from tensordsl.functions.indices import indices
from tensordsl.functions.linalg import linalg, logdet
from tensordsl.functions.multilinear import (
    commutation,
    diag,
    diagonal,
    dot,
    einsum,
    inner,
    khatri_rao,
    kron,
    mean,
    outer,
    tensordot,
    trace,
    transpose,
    unvec,
    vec,
)
from tensordsl.functions.multilinear import sum_ as sum
from tensordsl.functions.operators import add, hadamard, matmul, multiply, negative, subtract
from tensordsl.parsing.parse import parse
from tensordsl.printing.forms import explain
from tensordsl.printing import dot as _dot  # noqa: F401 - gives expressions their to_dot
from tensordsl.program.plan import plan

__version__ = "0.1.0"

__all__ = [
    "BindError", "DerivativeError", "Dim", "Expr", "ParseError", "PlanError", "ShapeError", "Size", "TensorDSLError",
    "UnsupportedError", "abs", "add", "basis", "check_derivative", "commutation", "compile", "constant", "cos",
    "derivative", "diag", "diagonal", "differential", "dim", "dims", "divide", "dot", "einsum", "exp", "explain", "grad",
    "greater", "greater_equal", "hadamard", "hessian", "hvp", "identity", "indices", "inner", "jacobian",
    "jacobian_matrix", "jvp", "khatri_rao", "kron", "less", "less_equal", "linalg", "log", "logdet", "matmul", "matrix",
    "mean", "multiply", "negative", "ones", "outer", "parse", "plan", "power", "scalar", "sigmoid", "sign", "sin",
    "sqrt", "subtract", "sum", "tanh", "tensor", "tensordot", "trace", "transpose", "unvec", "vec", "vector", "vjp",
    "zeros",
]
