"""Teaching SmolLM2 one answer: supervised fine-tuning through its chat template, of low-rank adapters alone.

The weights of the file are not touched. Beside some matrices of the last blocks stand two thin ones each, and only
those are trained; what lies before the first adapted block is computed once. Source: Hu et al. 2021, arXiv:2106.09685.
Adapters in practice go to all blocks and learn from thousands of examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.continuation import logits_of, run_rest
from engine.memo import Memo
from engine.model import Model
from engine.optimizers import Adam
from engine.post_training import lora, masked_loss
from engine.weights import Matrix

MATRICES = {"qv": ("w_q", "w_v"), "attention": ("w_q", "w_k", "w_v", "w_o"), "ffn": ("w_gate", "w_up", "w_down")}
LAST_BLOCKS = 6
ALPHA = 16
Adapters = dict[str, dict[str, Array]]  # "blk.24.w_q" -> {"a": (in, r), "b": (r, out)}


def fresh_adapters(model: Model, rank: int, parts: str, seed: int = 0, last: int = LAST_BLOCKS) -> Adapters:
    """Random a, and b = 0: nothing changes yet. Raises ValueError for unknown parts and for a rank below 1."""
    if parts not in MATRICES or rank < 1:
        raise ValueError(f"Adapters have a rank of 1 or more and go to one of {', '.join(MATRICES)}.")
    rng, made = np.random.default_rng(seed), {}
    for i in range(max(0, model.config.layers - last), model.config.layers):
        for name in MATRICES[parts]:
            inputs, outputs = getattr(model.weights.blocks[i], name).shape
            a = rng.standard_normal((inputs, rank)) / np.sqrt(inputs)
            b = np.zeros((rank, outputs))
            made[f"blk.{i}.{name}"] = {key: x.astype(model.weights.embedding.dtype) for key, x in (("a", a), ("b", b))}
    return made


def adapted(model: Model, adapters: Any) -> Model:
    """The model with its adapters merged into the weights by `lora`; works on traced adapters, too."""
    blocks = list(model.weights.blocks)
    for name, adapter in adapters.items():
        _, index, part = name.split(".")
        block = blocks[int(index)]
        merged = lora(getattr(block, part).rows.T, adapter["a"], adapter["b"], ALPHA)
        whole: Any = Matrix(np.ascontiguousarray(merged.T)) if isinstance(merged, np.ndarray) else merged
        blocks[int(index)] = replace(block, **{part: whole})
    return replace(model, weights=replace(model.weights, blocks=tuple(blocks)), memo=Memo(2**24))


def parameters_in(adapters: Adapters) -> int:
    """How many numbers are trained."""
    return sum(array.size for adapter in adapters.values() for array in adapter.values())


@dataclass(frozen=True)
class Lesson:
    """The adapters after so many steps."""

    step: int
    loss: float  # over the tokens that count, in nats
    adapters: Adapters


def teach(
    model: Model, ids: Sequence[int], counts: np.ndarray, adapters: Adapters, steps: int = 20, rate: float = 0.004
) -> Iterator[Lesson]:
    """Train the adapters on one text with Adam; the first lesson is the model as it was."""
    first = min(int(name.split(".")[1]) for name in adapters)
    trace = model.trace(ids)
    stream = trace[f"blk.{first - 1}.resid"] if first else trace["embed"]
    rows = np.flatnonzero(np.asarray(counts)[1:])  # the token at row + 1 is guessed at row
    targets, positions = np.asarray(ids)[rows + 1], trace["positions"]

    def loss(trained: Any) -> Float[Array, ""]:
        changed = adapted(model, trained)
        x = run_rest(changed, stream, first, positions)
        return masked_loss(logits_of(changed, x[rows]), targets, np.ones(len(targets)))

    optimizer, slope = Adam(rate), value_and_grad(loss)
    for step in range(steps + 1):
        value, gradients = slope(adapters)
        yield Lesson(step, float(value), adapters)
        adapters = optimizer.step(adapters, gradients)
