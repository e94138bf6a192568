"""One neuron, and neurons one after the other: weighted sum, bend, slope, and what is left of a slope after many.

Source for slopes that vanish through depth: Glorot and Bengio 2010, "Understanding the difficulty of training deep
feedforward neural networks", section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.activation import ACTIVATIONS, derivative
from engine.arrays import Array

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("linear", "relu", "leaky_relu", "sigmoid", "tanh", "gelu")},
    "gelu_tanh": ("gelu", {"approximate": "tanh"}),
    "silu": ("silu", {}),
}
"""What a neuron can bend its sum with: each activation, and GELU in both of its forms."""


def bend(form: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The activation of the form at x. Raises ValueError for an unknown form."""
    name, options = _form(form)
    return ACTIVATIONS[name](x, **options)


def slope(form: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Its derivative at x."""
    name, options = _form(form)
    return derivative(name, x, **options)


def _form(form: str) -> tuple[str, dict[str, Any]]:
    if form not in FORMS:
        raise ValueError(f"There is no activation {form!r}; choose one of {', '.join(FORMS)}.")
    return FORMS[form]


@dataclass(frozen=True)
class Neuron:
    """Every step of one neuron with n inputs."""

    products: Float[Array, "n"]  # input times weight
    total: Float[Array, ""]  # their sum and the bias, often called z
    output: Float[Array, ""]  # after the activation
    slope: Float[Array, ""]  # of the activation at the sum: ∂output / ∂total
    by_weight: Float[Array, "n"]  # ∂output / ∂weight = slope times input
    by_input: Float[Array, "n"]  # ∂output / ∂input = slope times weight


def neuron(x: Float[Array, "n"], weights: Float[Array, "n"], bias: float | int, form: str = "relu") -> Neuron:
    """activation(x · weights + bias), and how fast it changes with each weight and each input."""
    products = x * weights
    total = np.asarray(np.sum(products) + bias)
    steep = slope(form, total)
    return Neuron(products, total, bend(form, total), steep, steep * x, steep * weights)


@dataclass(frozen=True)
class Chain:
    """Neurons one after the other, each with a single input: the output of the one before."""

    totals: Float[Array, "layers"]  # weight · (what came in) + bias
    values: Float[Array, "layers"]  # after the activation
    slopes: Float[Array, "layers"]  # weight · (slope of the activation): ∂(this output) / ∂(the one before)
    reach: Float[Array, "layers"]  # their running product: ∂(this output) / ∂(input of the chain)


def chain(x: float | int, layers: int, weight: float | int, bias: float | int, form: str = "sigmoid") -> Chain:
    """The same neuron `layers` times in a row. By the chain rule the slopes multiply."""
    totals: list[Any] = []
    value: Any = np.float64(x)
    for _ in range(layers):
        total = weight * value + bias
        value = bend(form, total)
        totals.append(total)
    sums = np.array(totals)
    slopes = weight * slope(form, sums)
    return Chain(sums, bend(form, sums), slopes, np.cumprod(slopes))
