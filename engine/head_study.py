"""What heads do, measured: scores of known jobs, and what is lost when heads are switched off.

An induction head finds what came after the last time. Having read A B … A, it looks from the second A at B, so that the
model can say B again. Random tokens, the whole list twice, show it best: nothing else in them could help to guess.

Sources: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", transformer-circuits.pub; Olsson et
al. 2022, "In-context Learning and Induction Heads", arXiv:2209.11895.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.attention_study import previous_token_share
from engine.edits import Edit, Trace, switch_off_head
from engine.model import Model
from engine.sampling import softmax, surprisal

Head = tuple[int, int]  # layer, and number within the layer
PERIOD = 20  # random tokens before they repeat
SPECIAL = 17  # the first ids of SmolLM2's vocabulary are special tokens, which no text contains


def repeated_random_ids(seed: int, period: int = PERIOD, vocabulary: int = 49152) -> Int[Array, "T"]:
    """`period` different tokens drawn at random, and then the same ones once more."""
    if not 2 <= period <= vocabulary - SPECIAL:
        raise ValueError(f"The tokens to repeat number 2 to {vocabulary - SPECIAL}, not {period}.")
    once = np.random.default_rng(seed).choice(vocabulary - SPECIAL, size=period, replace=False) + SPECIAL
    return np.concatenate([once, once])


def induction_score(weights: Float[Array, "... T T"], period: int) -> Float[Array, "..."]:
    """Over a text that repeats after `period` tokens: the mean weight from each repeated token to its first successor.

    The token at position i ≥ period was first seen at i − period; what came after that stands at i − period + 1. A head
    that always looks there scores 1. Raises ValueError for a text that is not two periods long.
    """
    if weights.shape[-1] != 2 * period or period < 2:
        raise ValueError(f"The text should be twice {period} tokens long, and is {weights.shape[-1]}.")
    repeated = np.arange(period, 2 * period)
    return np.mean(weights[..., repeated, repeated - period + 1], axis=-1)


@dataclass(frozen=True)
class Repeated:
    """The model's reading of a text that comes twice: 2 · period tokens."""

    ids: Int[Array, "T"]
    weights: Float[Array, "layers heads T T"]
    surprisal: Float[Array, " predicted"]  # of each token but the first, in nats
    induction: Float[Array, "layers heads"]
    guesses: Int[Array, "T 5"]  # the five likeliest next tokens after each position, best first
    chances: Float[Array, "T 5"]  # their probabilities
    before: Mapping[str, Array]  # positions and streams, where a run with an edit can start (`Model.rerun`)


def read_twice(model: Model, once: Sequence[int] | Int[Array, "period"]) -> Repeated:
    """Run the model over a text twice in a row, and score its heads; kept by the model, so that it happens once.

    Raises ValueError for fewer than two tokens.
    """
    text = tuple(map(int, once))

    def run() -> tuple[Any, ...]:
        ids, trace = np.array(text + text), Trace("blk.*.attn.weights", "blk.*.resid", "positions")
        logits = model.forward(ids, trace=trace)
        weights = np.stack([trace[f"blk.{i}.attn.weights"] for i in range(model.config.layers)])
        best = _likeliest(logits, 5)
        chances = np.take_along_axis(softmax(logits), best, axis=-1)
        before = {name: trace[name] for name in trace if not name.endswith((".weights", ".attn.resid"))}
        losses = surprisal(logits[:-1], ids[1:])
        return ids, weights, losses, induction_score(weights, len(text)), best, chances, before

    return Repeated(*model.memo.get(("read_twice", str(model.weights.embedding.dtype), text), run))


def _likeliest(logits: Float[Array, "T V"], count: int) -> Int[Array, "T count"]:
    """The ids of the largest logits, best first; only these are put in order, which is ten times faster than all."""
    some = np.argpartition(-logits, count, axis=-1)[:, :count]
    order = np.argsort(-np.take_along_axis(logits, some, axis=-1), axis=-1)
    return np.take_along_axis(some, order, axis=-1)


def read_repeated(model: Model, seed: int, period: int = PERIOD) -> Repeated:
    """Run the model over random tokens that come twice."""
    return read_twice(model, repeated_random_ids(seed, period, model.config.vocabulary)[:period])


def ranked(scores: Float[Array, "layers heads"]) -> list[Head]:
    """All heads as (layer, head), the highest score first."""
    order = np.argsort(-np.asarray(scores), axis=None, kind="stable")
    return [(int(at) // scores.shape[1], int(at) % scores.shape[1]) for at in order]


def random_heads(seed: int, count: int, among: Sequence[Head]) -> list[Head]:
    """`count` different heads drawn at random: the control for an experiment with chosen ones."""
    drawn = np.random.default_rng(seed).choice(len(among), size=count, replace=False)
    return sorted(among[int(at)] for at in drawn)


def by_shared_keys(heads: Iterable[Head], group: int) -> list[list[Head]]:
    """Those of the heads that read one key/value head together; `group` query heads share one. Lists of 2 or more."""
    shared: dict[Head, list[Head]] = {}
    for layer, head in sorted(heads):
        shared.setdefault((layer, head // group), []).append((layer, head))
    return [together for together in shared.values() if len(together) > 1]


def without_heads(heads: Iterable[Head]) -> Edit:
    """An edit that switches off these heads, in whatever layers they are."""
    layers: dict[int, list[int]] = {}
    for layer, head in heads:
        layers.setdefault(layer, []).append(head)
    return {name: patch for layer in layers for name, patch in switch_off_head(layer, *layers[layer]).items()}


@dataclass(frozen=True)
class Ablation:
    """What the model does with some heads switched off."""

    logits: Float[Array, "V"]  # for the token after the text
    text: Float[Array, " predicted"]  # surprisal of each token of the text but the first, in nats
    repeated: Float[Array, " repeated"]  # the same for the random tokens that repeat


def ablate(model: Model, ids: Sequence[int], heads: Iterable[Head], seed: int = 0, period: int = PERIOD) -> Ablation:
    """Read a text and repeated random tokens without these heads; kept by the model, so that each set runs once."""
    off = tuple(sorted(set(heads)))
    text, dtype = tuple(map(int, ids)), str(model.weights.embedding.dtype)

    def after_text() -> tuple[np.ndarray, ...]:
        before = model.trace(text)
        logits = model.rerun(text, before, without_heads(off)) if off else before["logits"]
        return np.copy(logits[-1]), surprisal(logits[:-1], np.array(text[1:], int))

    def of_repeated() -> np.ndarray:
        read = read_repeated(model, seed, period)
        if not off:
            return read.surprisal
        return surprisal(model.rerun(read.ids, read.before, without_heads(off))[:-1], read.ids[1:])

    last, text_surprisal = model.memo.get(("ablate", dtype, text, off), after_text)
    return Ablation(last, text_surprisal, model.memo.get(("ablate", dtype, seed, period, off), of_repeated))


def copied(surprisals: Float[Array, " repeated"]) -> tuple[float, float]:
    """Mean surprisal of random tokens at first sight, and when they come again, in nats.

    The token at which the repetition begins counts in neither: nothing tells that it will.
    """
    period = (len(surprisals) + 1) // 2
    return float(np.mean(surprisals[: period - 1])), float(np.mean(surprisals[period:]))


def compare(whole: Ablation, without: Ablation) -> dict[str, tuple[float, float]]:
    """Mean surprisal before and after, in nats, of the text and of the random tokens' first and second time."""
    first, second = zip(copied(whole.repeated), copied(without.repeated), strict=True)
    text = float(np.mean(whole.text)), float(np.mean(without.text))
    return {"your text": text, "random tokens, first time": first, "random tokens, second time": second}


def choose(model: Model, which: str, count: int, seed: int, one: Head) -> list[Head]:
    """Heads to switch off: `count` of "induction", "previous" or "random"; "one", its "layer", or "none".

    Both rankings are measured on the repeated random tokens of `seed`. Random heads are drawn from all but the 20
    strongest induction heads, so that they are a control. Raises ValueError for other words.
    """
    if which in ("one", "layer", "none"):
        in_layer = [(one[0], head) for head in range(model.config.heads)]
        return {"one": [one], "layer": in_layer, "none": []}[which]
    read = read_repeated(model, seed)
    by_induction = ranked(read.induction)
    if which == "random":
        return random_heads(seed, count, by_induction[20:])
    if which == "previous":
        return ranked(previous_token_share(read.weights))[:count]
    if which == "induction":
        return by_induction[:count]
    raise ValueError(f"There is no set of heads called {which!r}.")
