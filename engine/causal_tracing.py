"""Causal tracing: which layers' feed-forward networks carry a fact?

Blur the subject's vectors with noise, and the fact is lost. Give a few layers back what they wrote in the clean run,
at the subject's last token, and see how much of the answer returns. Source: Meng et al. 2022, arXiv:2202.05262,
section 2. That the layers found so are not the best to edit: Hase et al. 2023, arXiv:2301.04213.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.continuation import logits_of, run_rest
from engine.edit_facts import Fact
from engine.edits import EditingTap
from engine.model import Model
from engine.rank_one_edit import LAYERS, subject_end
from engine.sampling import softmax
from engine.tokenization import encode


@dataclass(frozen=True)
class CausalTrace:
    """Probability of the old answer: in the clean run, blurred, and with each window of layers restored."""

    clean: float
    blurred: float  # mean over the draws of noise, as are the restored ones
    restored: Float[Array, "layers"]

    @property
    def effects(self) -> Float[Array, "layers"]:
        """How much restoring each window brings back: the indirect effect."""
        return self.restored - self.blurred


def causal_trace(
    model: Model, fact: Fact, layers: Sequence[int] = LAYERS, window: int = 5, draws: int = 8, seed: int = 0
) -> CausalTrace:
    """Restore the feed-forward outputs of `window` layers around each of `layers`, over `draws` of noise.

    The noise is normal, three times as wide as the numbers of the embedding table.
    """
    ids, end, answer = encode(fact.prompt, "smollm2"), subject_end(fact), encode(fact.old, "smollm2")[0]
    start = end + 1 - len(encode(" " + fact.subject, "smollm2"))
    clean = model.trace(ids)
    width = 3 * float(np.std(model.weights.embedding))
    noise = np.random.default_rng(seed).normal(0, width, (draws, end + 1 - start, clean["embed"].shape[1]))
    blurred = np.repeat(clean["embed"][None], draws, axis=0)
    blurred = np.concatenate(
        [blurred[:, :start], blurred[:, start : end + 1] + noise.astype(np.float32), blurred[:, end + 1 :]], axis=1
    )

    def probability(restored: Sequence[int]) -> float:
        edit = {f"blk.{i}.ffn.out": _put_back(clean[f"blk.{i}.ffn.out"], end) for i in restored}
        stream = run_rest(model, blurred, 0, np.arange(len(ids)), tap=EditingTap(None, edit))
        return float(np.mean(softmax(logits_of(model, stream[:, -1]))[:, answer]))

    def around(layer: int) -> range:
        return range(max(0, layer - window // 2), min(model.config.layers, layer + window // 2 + 1))

    known = float(softmax(clean["logits"][-1])[answer])
    return CausalTrace(known, probability(()), np.array([probability(around(layer)) for layer in layers]))


def _put_back(clean: Float[Array, "T D"], position: int) -> Any:
    at = (np.arange(len(clean)) == position)[:, None]
    return lambda value, seen: np.where(at, clean, value)
