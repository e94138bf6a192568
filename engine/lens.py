"""The logit lens: what the model would say next if it stopped after each block.

The stream after any block has the form that the output matrix expects after the last one. Reading it off early shows
how the guess takes shape. Source: nostalgebraist 2020, "Interpreting GPT: the logit lens"; its limits: Belrose et al.
2023, arXiv:2303.08112.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.block import rms_norm
from engine.model import Model
from engine.sampling import softmax


@dataclass(frozen=True)
class Lens:
    """For the embedding (row 0) and after each block: the likeliest token of every position asked for."""

    ids: Int[Array, "rows T"]
    probabilities: Float[Array, "rows T"]
    norms: Float[Array, "rows T"]  # length of the stream's vector


def logit_lens(model: Model, trace: Mapping[str, Array], positions: slice = slice(None)) -> Lens:
    """Last norm and output matrix applied to the stream after every block. `trace` is `model.trace(ids)`."""
    streams = [trace["embed"][positions]] + [trace[f"blk.{i}.resid"][positions] for i in range(model.config.layers)]
    ids, probabilities, norms = [], [], []
    for stream in streams:
        p = softmax(rms_norm(stream, model.weights.final_norm, model.config.eps) @ model.weights.unembedding)
        ids.append(np.argmax(p, axis=-1))
        probabilities.append(np.max(p, axis=-1))
        norms.append(np.linalg.norm(stream, axis=-1))
    return Lens(np.array(ids), np.array(probabilities), np.array(norms))
