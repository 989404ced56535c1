"""What is known of primitives by their names and parameters."""

from deepcomp_jax.shrink.program import Op

ELEMENTWISE = frozenset({
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2",
    "atanh", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos",
    "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1",
    "floor", "ge", "gt", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p",
    "logistic", "lt", "max", "min", "mul", "name", "ne", "neg", "nextafter", "not",
    "or", "population_count", "pow", "pvary", "real", "imag", "reduce_precision", "rem",
    "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sharding_constraint", "sign", "sin", "sinh", "sqrt",
    "square", "stop_gradient", "sub", "tan", "tanh", "xor",
})  # fmt: skip


def mixed(op: Op) -> tuple[tuple[int, ...], bool] | None:
    """Along which axes a primitive of one operand mixes what it reads.

    Returns:
        The axes, and whether the result lacks them; None if it is not such a primitive.
    """
    params, name = op.params, op.name
    if name in ("argmax", "argmin") or name.startswith("reduce_") and "axes" in params:
        return tuple(params["axes"]), True
    if name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"):
        return (params["axis"],), False
    if name == "sort" and len(op.inputs) == 1:
        return (params["dimension"],), False
    if "window_dimensions" in params and len(op.inputs) == 1:
        given = zip(
            params["window_dimensions"],
            params["window_strides"],
            params["padding"],
            strict=True,
        )
        windowed = [i for i, own in enumerate(given) if own != (1, 1, (0, 0))]
        return tuple(windowed), False
    return None


def contracted(op: Op) -> tuple[int, ...]:
    """The axes of the second operand of a product over which it sums."""
    if op.name == "dot_general":
        return tuple(op.params["dimension_numbers"][0][1])
    return (op.params["dimension_numbers"].rhs_spec[1],)
