"""Why a network needs a bend: two linear layers are one linear layer.

(x w1 + b1) w2 + b2 = x (w1 w2) + (b1 w2 + b2), whatever the numbers. On paper the two sides are equal; in a computer
each rounds in its own places, unless every number and every sum fits the format exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.neuron import bend


@dataclass(frozen=True)
class Layers:
    """Weights and biases of two layers, D → F → E."""

    w1: Float[Array, "D F"]
    b1: Float[Array, "F"]
    w2: Float[Array, "F E"]
    b2: Float[Array, "E"]


def drawn_layers(seed: int, quarters: bool = True, sizes: tuple[int, int, int] = (2, 3, 2)) -> Layers:
    """Random layers in float32: multiples of 1/4 between −2 and 2, or numbers with no such pattern.

    Multiples of 1/4 are exact in binary, and so are all products and sums of a few of them.
    """
    width, hidden, out = sizes
    rng = np.random.default_rng(seed)
    shapes = ((width, hidden), (hidden,), (hidden, out), (out,))
    drawn = [rng.integers(-8, 9, shape) / 4 if quarters else rng.uniform(-2, 2, shape) for shape in shapes]
    return Layers(*(array.astype(np.float32) for array in drawn))


def collapse(layers: Layers) -> tuple[Float[Array, "D E"], Float[Array, "E"]]:
    """The one matrix and the one bias that do what both layers do together without an activation."""
    return layers.w1 @ layers.w2, layers.b1 @ layers.w2 + layers.b2


@dataclass(frozen=True)
class Comparison:
    """Two layers and their collapsed form on the same inputs."""

    hidden: Float[Array, "N F"]  # x w1 + b1
    activated: Float[Array, "N F"]
    output: Float[Array, "N E"]  # activated w2 + b2
    matrix: Float[Array, "D E"]  # w1 w2
    bias: Float[Array, "E"]  # b1 w2 + b2
    collapsed: Float[Array, "N E"]  # x matrix + bias
    difference: float  # the largest between output and collapsed


def compare(x: Float[Array, "N D"], layers: Layers, form: str = "linear") -> Comparison:
    """Run both ways, with the activation `form` between the two layers of the first."""
    hidden = x @ layers.w1 + layers.b1
    activated = bend(form, hidden)
    output = activated @ layers.w2 + layers.b2
    matrix, bias = collapse(layers)
    collapsed = x @ matrix + bias
    return Comparison(hidden, activated, output, matrix, bias, collapsed, float(np.max(np.abs(output - collapsed))))
