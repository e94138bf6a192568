"""Activation functions: what a neuron does with its weighted sum.

A neuron weighs its inputs, adds a bias, and bends the sum with one of these. Without a bend, layers upon layers would
collapse into one matrix. Each function here is finite, and overflows nowhere, for every finite float32 or float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array


def linear(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x itself: no activation."""
    return x


def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(0, x)."""
    return np.maximum(x, 0.0)


def leaky_relu(x: Float[Array, "..."], slope: float | int = 0.01) -> Float[Array, "..."]:
    """x where positive, slope * x elsewhere."""
    return np.where(x > 0, x, slope * x)


def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 / (1 + exp(−x)); for negative x as exp(x) / (exp(x) + 1), so that exp cannot overflow."""
    low, high = np.exp(np.minimum(0.0, x)), np.exp(-np.maximum(x, 0.0))  # one of them is 1; at 0 only `low` has a slope
    return low / (low + high)


def tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Hyperbolic tangent."""
    return np.tanh(x)


def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x * sigmoid(x), also called swish. Source: Elfwing et al. 2017, arXiv:1702.03118."""
    return x * sigmoid(x)


def gelu(x: Float[Array, "..."], approximate: str = "none") -> Float[Array, "..."]:
    """x * Phi(x), Phi the normal distribution function. Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.

    approximate "none": Phi(x) = (1 + erf(x / sqrt 2)) / 2. "tanh": the paper's approximation, which GPT-2 uses.
    """
    if approximate == "none":
        return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        return 0.5 * x * (1.0 + np.tanh(_tanh_argument(_near_zero(x))))
    raise ValueError(f'approximate must be "none" or "tanh", not {approximate!r}.')


def _tanh_argument(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)


def _near_zero(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x cut to −10 … 10: beyond, the tanh above is exactly 1 or −1, and the cube of a huge x would overflow."""
    return np.minimum(np.maximum(x, -10.0), 10.0)


# Rational approximations from W. J. Cody, "Rational Chebyshev approximations for the error function",
# Mathematics of Computation 23 (1969), 631-637; highest power first.
# fmt: off
_SMALL_TOP = (
    1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3,
)
_SMALL_BOTTOM = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_LARGE_TOP = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)
_LARGE_BOTTOM = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)
# fmt: on


def erf(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The error function 2/√π · ∫ exp(−t²) dt from 0 to x, off by no more than 3e-16 in float64.

    x · R(x²) up to 0.46875, 1 − exp(−x²) · R(x) above, each R a ratio of two polynomials (Cody 1969, see above).
    """
    size = np.minimum(np.where(x < 0, -x, x), 6.0)  # erf(6) is 1 in float64
    square = size * size
    near = size * _polynomial(_SMALL_TOP, square) / _polynomial(_SMALL_BOTTOM, square)
    far = 1.0 - np.exp(-square) * _polynomial(_LARGE_TOP, size) / _polynomial(_LARGE_BOTTOM, size)
    return np.where(x < 0, -1.0, 1.0).astype(x.dtype) * np.where(size <= 0.46875, near, far)


def _polynomial(coefficients: tuple[float, ...], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Horner's scheme, highest power first."""
    start: Any = coefficients[0]
    return reduce(lambda total, coefficient: total * x + coefficient, coefficients[1:], start)


ACTIVATIONS: dict[str, Callable[..., Array]] = {
    function.__name__: function for function in (linear, relu, leaky_relu, sigmoid, tanh, gelu, silu)
}


# Derivatives ---------------------------------------------------------------------------------------------------------


def derivative(name: str, x: Float[Array, "..."], **options: Any) -> Float[Array, "..."]:
    """The slope of the activation `name` at x; `options` are the activation's own (slope, approximate).

    At the corner of relu and leaky_relu the slope of the left side is taken. Raises ValueError for an unknown name.
    """
    if name not in _DERIVATIVES:
        raise ValueError(f"There is no activation {name!r}; choose one of {', '.join(ACTIVATIONS)}.")
    return _DERIVATIVES[name](x, **options)


def _linear_slope(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return np.ones_like(x)


def _relu_slope(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return np.where(x > 0, np.ones_like(x), 0.0)


def _leaky_relu_slope(x: Float[Array, "..."], slope: float | int = 0.01) -> Float[Array, "..."]:
    return np.where(x > 0, np.ones_like(x), slope)


def _sigmoid_slope(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return sigmoid(x) * sigmoid(-x)


def _tanh_slope(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return 1.0 - np.tanh(x) ** 2


def _silu_slope(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return sigmoid(x) + x * sigmoid(x) * sigmoid(-x)


def _gelu_slope(x: Float[Array, "..."], approximate: str = "none") -> Float[Array, "..."]:
    if approximate == "none":  # Φ(x) + x φ(x), φ the normal density, which is 0 beyond 40
        near = np.minimum(np.maximum(x, -40.0), 40.0)
        density = np.exp(-near * near / 2.0) / math.sqrt(2.0 * math.pi)
        return 0.5 * (1.0 + erf(x * math.sqrt(0.5))) + x * density
    if approximate == "tanh":
        near = _near_zero(x)
        bend = np.tanh(_tanh_argument(near))
        inner_slope = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * near * near)
        return 0.5 * (1.0 + bend) + 0.5 * near * (1.0 - bend * bend) * inner_slope
    raise ValueError(f'approximate must be "none" or "tanh", not {approximate!r}.')


_DERIVATIVES: dict[str, Callable[..., Array]] = {
    "linear": _linear_slope, "relu": _relu_slope, "leaky_relu": _leaky_relu_slope, "sigmoid": _sigmoid_slope,
    "tanh": _tanh_slope, "gelu": _gelu_slope, "silu": _silu_slope,
}  # fmt: skip
