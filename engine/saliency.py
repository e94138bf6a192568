"""Which input tokens move the prediction: the gradient of the loss with respect to the model's input vectors.

The gradient at a token is how fast the loss changes when that token's vector is moved; its length ignores direction.
Gradient times input is what the gradient promises for taking the vector away. Sources: Simonyan, Vedaldi and Zisserman
2014, arXiv:1312.6034 (gradient saliency); Shrikumar et al. 2016, arXiv:1605.01713 (gradient times input). Both see
only the immediate surroundings of the input, and are clues, not explanations: Adebayo et al. 2018, arXiv:1810.03292.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.embeddings import lookup
from engine.model import Model


@dataclass(frozen=True)
class Saliency:
    """The gradient at every token, and two ways to make one number of it."""

    loss: float  # nats
    gradient: Float[Array, "T D"]
    norms: Float[Array, "T"]  # its length at each token, in nats per unit of length
    times_input: Float[Array, "T"]  # Σ gradient · vector, in nats


def token_saliency(model: Model, ids: Sequence[int], target: int | None = None) -> Saliency:
    """Saliency of each token for the mean loss of the text, or with `target` for the surprisal of that one token."""
    loss, gradient = model.embedding_gradient(ids, target)
    vectors = lookup(model.weights.embedding, np.asarray(ids))
    norms = np.sqrt(np.sum(gradient * gradient, axis=-1))
    return Saliency(loss, gradient, norms, np.sum(gradient * vectors, axis=-1))


@dataclass(frozen=True)
class Nudge:
    """What the gradient promised for a move of the input vectors, and what the model then really gave."""

    promised: float  # change of the loss, if its slope stayed as it is
    computed: float  # change of the loss, with the model run on the moved vectors


def nudge(model: Model, ids: Sequence[int], share: float, target: int | None = None) -> Nudge:
    """Move all input vectors against the gradient, by `share` of their total length, and run the model again.

    Raises ValueError for a negative share.
    """
    if not share >= 0:
        raise ValueError(f"The size of the nudge must be 0 or more, not {share}.")
    found, vectors = token_saliency(model, ids, target), lookup(model.weights.embedding, np.asarray(ids))
    steepest = float(np.linalg.norm(found.gradient))
    distance = share * float(np.linalg.norm(vectors))
    direction = found.gradient / max(steepest, 1e-12)
    after = model.loss(ids, {"embed": vectors - distance * direction}, target)
    return Nudge(-distance * steepest, float(after) - found.loss)
