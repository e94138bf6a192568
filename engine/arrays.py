"""What every engine function computes on: NumPy arrays, or the traced arrays of chapter 6 that stand in for them.

`Array` is the type written in every signature, with its shape beside it: `Float[Array, "T D"]`. A traced array
(`engine.backpropagation`) registers itself here, so one function serves both computing and differentiating.
"""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray
else:

    class Array(ABC):  # noqa: B024 - a name for "array-like enough", filled by registration
        """Anything with a shape and a dtype that NumPy functions accept."""

    Array.register(np.ndarray)
    Array.register(np.generic)


def constant(x: Array) -> np.ndarray:
    """The plain numbers of an array: no gradient passes through what is computed from them."""
    return getattr(x, "value", x)
