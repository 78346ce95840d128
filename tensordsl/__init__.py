"""Tensor algebra: derivatives by rule, readable in every notation, computed without losing their structure."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

from tensordsl.calculus import (
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
from tensordsl.custom import elementwise, primitive
from tensordsl.dims import Dim, Size, dim, dims
from tensordsl.dims import operations as _operations
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
from tensordsl.execution.factored import Factored
from tensordsl.expr import Expr
from tensordsl.functions import norms as _norms  # noqa: F401 - td.linalg.norm
from tensordsl.functions import numpy_arrays as _numpy_arrays  # noqa: F401 - what NumPy has more names for
from tensordsl.functions import numpy_names as _numpy_names  # noqa: F401 - what np.vstack, np.flip and the rest mean
from tensordsl.functions import spectral as _spectral  # noqa: F401 - td.linalg.expm and the rest
from tensordsl.functions.analytic import (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cos,
    cosh,
    digamma,
    erf,
    exp,
    expm1,
    lgamma,
    log,
    log1p,
    polygamma,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    tan,
    tanh,
)
from tensordsl.functions.arranging import (
    block,
    block_diag,
    broadcast,
    concatenate,
    expand_dims,
    moveaxis,
    ravel,
    reshape,
    squeeze,
    stack,
    swapaxes,
)
from tensordsl.functions.choices import abs_ as abs
from tensordsl.functions.choices import (
    clip,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    maximum,
    minimum,
    not_equal,
    relu,
    sign,
    where,
)
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
from tensordsl.functions.elementwise import divide, power, reciprocal, square
from tensordsl.functions.indices import indices
from tensordsl.functions.linalg import linalg, logdet
from tensordsl.functions.multilinear import (
    commutation,
    cross,
    diag,
    diagonal,
    dot,
    einsum,
    frobenius,
    inner,
    khatri_rao,
    kron,
    mean,
    outer,
    tensordot,
    trace,
    transpose,
    unvec,
    vdot,
    vec,
)
from tensordsl.functions.multilinear import sum_ as sum
from tensordsl.functions.operators import add, hadamard, matmul, multiply, negative, subtract
from tensordsl.functions.reductions import logsumexp, prod, prod_others, softmax, std, var
from tensordsl.functions.reductions import max_ as max
from tensordsl.functions.reductions import min_ as min
from tensordsl.functions.triangles import (
    duplication,
    elimination,
    tril,
    triu,
    vech,
    vech_columns,
    vech_rows,
)
from tensordsl.program.plan import plan
from tensordsl.rewrites import simplify

if TYPE_CHECKING:
    from tensordsl.parsing.parse import parse
    from tensordsl.printing.forms import explain
    from tensordsl.tracing import trace_function

__version__ = "0.1.0"

# The rooms that read and write texts are opened when the first text is read or written: the import stays light.
_operations.rooms |= {
    "to_string": "tensordsl.printing.forms",
    "to_latex": "tensordsl.printing.forms",
    "to_dot": "tensordsl.printing.dot",
    "array_namespace": "tensordsl.tracing",
    "plan_chunked": "tensordsl.chunked.storing",
    "evaluate_lazily": "tensordsl.chunked.lazily",
    "evaluate_stored": "tensordsl.chunked.computing",
}
_LATER = {
    "explain": "tensordsl.printing.forms",
    "open": "tensordsl.chunked.opened",
    "parse": "tensordsl.parsing.parse",
    "store": "tensordsl.chunked.storing",
    "trace_function": "tensordsl.tracing",
}


def __getattr__(name: str) -> _Any:
    if name not in _LATER:
        raise AttributeError(f"module 'tensordsl' has no attribute {name!r}")
    globals()[name] = found = getattr(_import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return [*globals(), *_LATER]


__all__ = [
    "BindError",
    "DerivativeError",
    "Dim",
    "Expr",
    "Factored",
    "ParseError",
    "PlanError",
    "ShapeError",
    "Size",
    "TensorDSLError",
    "UnsupportedError",
    "abs",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "basis",
    "block",
    "block_diag",
    "broadcast",
    "check_derivative",
    "clip",
    "commutation",
    "compile",
    "concatenate",
    "constant",
    "cos",
    "cosh",
    "cross",
    "derivative",
    "diag",
    "diagonal",
    "differential",
    "digamma",
    "dim",
    "dims",
    "divide",
    "dot",
    "duplication",
    "einsum",
    "elementwise",
    "elimination",
    "equal",
    "erf",
    "exp",
    "expand_dims",
    "explain",
    "expm1",
    "frobenius",
    "grad",
    "greater",
    "greater_equal",
    "hadamard",
    "hessian",
    "hvp",
    "identity",
    "indices",
    "inner",
    "jacobian",
    "jacobian_matrix",
    "jvp",
    "khatri_rao",
    "kron",
    "less",
    "less_equal",
    "lgamma",
    "linalg",
    "log",
    "log1p",
    "logdet",
    "logsumexp",
    "matmul",
    "matrix",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "negative",
    "not_equal",
    "ones",
    "outer",
    "parse",
    "plan",
    "polygamma",
    "power",
    "primitive",
    "prod",
    "prod_others",
    "ravel",
    "reciprocal",
    "relu",
    "reshape",
    "scalar",
    "sigmoid",
    "sign",
    "simplify",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "swapaxes",
    "tan",
    "tanh",
    "tensor",
    "tensordot",
    "trace",
    "trace_function",
    "transpose",
    "tril",
    "triu",
    "unvec",
    "var",
    "vdot",
    "vec",
    "vech",
    "vech_columns",
    "vech_rows",
    "vector",
    "vjp",
    "where",
    "zeros",
]
