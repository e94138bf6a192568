"""A small GPT to be trained: the same `Model` that runs SmolLM2, with a handful of random weights.

`GPT` says how large it is and draws its first weights; `GPT.model` turns weights, plain or traced, into a
`engine.model.Model`. So the forward pass that is trained here is the one of the real model, line by line, and a trained
GPT can do all that the real model can: traces, edits, cached generation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.block import Block
from engine.ledger import Config, total_parameters
from engine.memo import Memo
from engine.model import Model
from engine.sampling import surprisal
from engine.weights import Weights

Parameters = dict[str, Any]  # name -> array: embedding, blk.0.attn_norm, blk.0.w_q, …, final_norm
NOT_COUNTED = -1
"""A target that no loss is taken of."""


@dataclass(frozen=True)
class GPT:
    """The size of a Llama-style decoder with tied embeddings; raises ValueError for one that cannot be built."""

    vocabulary: int
    layers: int = 2
    width: int = 64
    heads: int = 4
    kv_heads: int | None = None  # as many as query heads, unless given
    hidden: int | None = None  # feed-forward width; 8/3 of the width, rounded up to a multiple of 8, unless given
    context: int = 64  # the longest text, in tokens

    def __post_init__(self) -> None:
        if min(self.vocabulary, self.layers, self.width, self.heads, self.context) < 1:
            raise ValueError("A GPT needs at least one token, layer, head, number of width and place of context.")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"A width of {self.width} does not divide into {self.heads} heads of an even width.")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} key/value heads evenly.")

    @property
    def config(self) -> Config:
        """The same as the published models are described by."""
        hidden = self.hidden or 8 * math.ceil(self.width / 3)
        return Config(
            "GPT", self.layers, self.width, self.heads, self.kv_heads or self.heads, self.width // self.heads, hidden,
            self.vocabulary, self.context, 0, "this project", tied=True,
        )  # fmt: skip

    @property
    def parameter_count(self) -> int:
        return total_parameters(self.config)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        c = self.config
        d, q, kv, f = c.width, c.heads * c.head_dim, c.kv_heads * c.head_dim, c.hidden
        block = {
            "attn_norm": (d,), "w_q": (d, q), "w_k": (d, kv), "w_v": (d, kv), "w_o": (q, d),
            "ffn_norm": (d,), "w_gate": (d, f), "w_up": (d, f), "w_down": (f, d),
        }  # fmt: skip
        blocks = {f"blk.{i}.{name}": shape for i in range(c.layers) for name, shape in block.items()}
        return {"embedding": (c.vocabulary, d), **blocks, "final_norm": (d,)}

    def start(self, seed: int = 0, dtype: type = np.float32) -> Parameters:
        """First weights: norms 1, embeddings with standard deviation 0.02, matrices 1/√(their inputs).

        What a sublayer adds to the stream is made smaller by √(2 · layers), so that the stream starts at the same size
        whatever the depth. Sources: Radford et al. 2019 (GPT-2), section 2.3, for 0.02 and the depth.
        """
        rng = np.random.default_rng(seed)
        return {name: self._drawn(rng, name, shape).astype(dtype) for name, shape in self.shapes().items()}

    def _drawn(self, rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Float[Array, "..."]:
        if name.endswith("norm"):
            return np.ones(shape)
        if name == "embedding":
            return 0.02 * rng.standard_normal(shape)
        depth = 2 * self.layers if name.endswith(("w_o", "w_down")) else 1
        return rng.standard_normal(shape) / math.sqrt(shape[0] * depth)

    def model(self, parameters: Parameters) -> Model:
        """The model with these weights."""
        blocks = tuple(
            Block(**{name: parameters[f"blk.{i}.{name}"] for name in Block.__dataclass_fields__})
            for i in range(self.layers)
        )
        table = parameters["embedding"]
        weights = Weights(table, blocks, parameters["final_norm"], np.swapaxes(table, 0, 1))
        return Model(self.config, weights, Memo(MEMO_BYTES))


MEMO_BYTES = 8 * 2**20


def loss(parameters: Parameters, gpt: GPT, inputs: Int[Array, "B T"], targets: Int[Array, "B T"]) -> Float[Array, ""]:
    """Mean surprisal, in nats, of the target after each position; targets of −1 are not counted.

    Raises ValueError when nothing is counted.
    """
    counted = targets != NOT_COUNTED
    if not np.any(counted):
        raise ValueError("A loss needs at least one token that counts.")
    lost = surprisal(gpt.model(parameters).forward(inputs), np.where(counted, targets, 0))
    if np.all(counted):
        return np.mean(lost)
    return np.sum(lost * counted) / float(np.sum(counted))
