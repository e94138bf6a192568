"""A rank-one edit of one feed-forward network: one line of arithmetic that changes what a model says of one fact.

The down-projection W of a layer maps what its neurons do, the key k, to what the layer writes into the stream, W k. The
edit picks the key k* of a subject, finds a value v* that makes the model say something else, and changes W as little
as possible so that W' k* = v*. This is ROME: Meng et al. 2022, arXiv:2202.05262, equation 2, after Bau et al. 2020,
arXiv:2007.15646. Left out of the original: keys averaged over random prefixes, the penalty that keeps other
statements about the subject, and statistics over a hundred thousand texts; here they come from one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.continuation import logits_of, run_rest
from engine.edit_facts import SENTENCES, Fact
from engine.edits import EditingTap, Trace
from engine.embeddings import lookup
from engine.memo import Memo
from engine.model import Model
from engine.sampling import cross_entropy, softmax, surprisal
from engine.tokenization import encode
from engine.weights import Matrix

LAYERS = (1, 4, 7, 10, 13, 16, 19, 22, 25, 28)  # where the pages offer an edit
STEPS, REACH = 3, 0.6  # of the search for v*: steps, and their total length as a share of the stream's own
RIDGE = 0.05  # added to the statistics, as a share of their mean
TEXT = Path(__file__).parent.parent / "data" / "one_page.txt"


# The arithmetic ------------------------------------------------------------------------------------------------------


def key_detector(
    key: Float[Array, "F"], others: Float[Array, "n F"] | None = None, ridge: float = RIDGE
) -> Float[Array, "F"]:
    """u = C⁻¹k / (kᵀC⁻¹k): what a key is multiplied with to see how much of `key` there is in it; u · key is 1.

    C is the mean of x xᵀ over `others`, keys of ordinary text, plus `ridge` times its mean diagonal: directions that
    ordinary text uses a lot count less. Without `others` C is the identity. Solved through the smaller n × n system
    (Woodbury's identity). Raises ValueError for a key of zeros.
    """
    if not np.any(key):
        raise ValueError("A key of zeros cannot be told from nothing.")
    if others is None:
        return key / np.sum(key * key)
    x, k = others.astype(np.float64), key.astype(np.float64)
    n, small = len(x), ridge * np.mean(x * x)
    inside = x @ x.T / n + small * np.eye(n)
    solved = (k - x.T @ np.linalg.solve(inside, x @ k) / n) / small
    return (solved / np.sum(k * solved)).astype(key.dtype)


def rank_one(w: Float[Array, "F D"], detector: Float[Array, "F"], change: Float[Array, "D"]) -> Float[Array, "F D"]:
    """W' = W + u δᵀ for weights that act as `key @ w`: a key k now gives (k · u) δ more than before."""
    return w + detector[:, None] * change


def edited_model(model: Model, layer: int, detector: Float[Array, "F"], change: Float[Array, "D"]) -> Model:
    """The model with that layer's down-projection really replaced; all other weights are shared with the old one."""
    old: Any = model.weights.blocks[layer]
    rows = rank_one(old.w_down.rows.T, detector, change).T
    block = replace(old, w_down=Matrix(np.ascontiguousarray(rows)))
    blocks = (*model.weights.blocks[:layer], block, *model.weights.blocks[layer + 1 :])
    return replace(model, weights=replace(model.weights, blocks=blocks), memo=Memo(0))


# The value that changes the answer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """Where a fact is changed, and the change that was found."""

    ids: tuple[int, ...]  # of the prompt
    position: int  # of the subject's last token
    key: Float[Array, "F"]  # k*, what the neurons do there
    value: Float[Array, "D"]  # W k*, what the layer writes there
    change: Float[Array, "D"]  # v* − W k*
    losses: tuple[float, ...]  # −log p of the new answer before each step


def subject_end(fact: Fact) -> int:
    """The position of the subject's last token in the prompt."""
    before = fact.prompt.index(fact.subject) + len(fact.subject)
    return len(encode(fact.prompt[:before], "smollm2")) - 1


def find_value(model: Model, fact: Fact, layer: int, steps: int = STEPS, reach: float = REACH) -> Target:
    """Search what the layer would have to write at the subject for the new answer to follow; kept.

    Gradient descent on −log p(new), in steps of equal length: together `reach` times the length of the stream there.
    Only the blocks after `layer` and the tokens from the subject on are run, since nothing else changes.
    """
    if steps < 1:
        raise ValueError(f"The search needs at least one step, not {steps}.")
    ids, position = tuple(encode(fact.prompt, "smollm2")), subject_end(fact)

    def run() -> list[np.ndarray]:
        trace = model.trace(ids)
        loss = partial(new_answer_loss, model, trace, layer, position, encode(fact.new, "smollm2")[0])
        stride = reach / steps * float(np.linalg.norm(trace[f"blk.{layer}.resid"][position]))
        change, losses = np.zeros_like(trace["embed"][0]), []
        for _ in range(steps):
            now, gradient = value_and_grad(loss)(change)
            losses.append(float(now))
            change = change - stride * gradient / max(float(np.linalg.norm(gradient)), 1e-12)
        return [change, np.array(losses)]

    change, losses = model.memo.get(("find_value", fact.prompt, fact.new, layer, steps, reach), run)
    trace = model.trace(ids)
    key, value = trace[f"blk.{layer}.ffn.hidden"][position], trace[f"blk.{layer}.ffn.out"][position]
    return Target(ids, position, key, value, change, tuple(losses.tolist()))


def new_answer_loss(
    model: Model, trace: Any, layer: int, position: int, new: int, change: Float[Array, "D"]
) -> Float[Array, ""]:
    """−log p of the token `new` after the text, if the layer wrote `change` more at that position."""
    stream = trace[f"blk.{layer}.resid"][position:]
    x = np.concatenate([np.reshape(stream[0] + change, (1, -1)), stream[1:]], axis=0)
    past = [(trace[f"blk.{i}.attn.k"][:, :position], trace[f"blk.{i}.attn.v"][:, :position])
            for i in range(layer + 1, model.config.layers)]  # fmt: skip
    x = run_rest(model, x, layer + 1, np.arange(position, len(trace["embed"])), past)
    return cross_entropy(logits_of(model, x[-1:]), np.array([new]))


# Before and after ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """What a model says to each of a fact's probes, and how well it predicts text that has nothing to do with it."""

    answer: Float[Array, "probes"]  # probability of each probe's own answer
    new: Float[Array, "probes"]  # probability of the fact's new answer
    top: Int[Array, "probes"]  # the likeliest next token of each probe
    loss: float  # mean surprisal of the unrelated sentences, nats a token


@dataclass(frozen=True)
class Edited:
    """One edit, applied, and what came of it."""

    target: Target
    detector: Float[Array, "F"]  # u
    change: Float[Array, "D"]  # strength · (v* − W k*)
    before: Effect
    after: Effect
    doses: Float[Array, "probes"]  # k · u: how many times the change each probe receives, where it receives most


def rank_one_edit(model: Model, fact: Fact, layer: int, statistics: bool = True, strength: float | int = 1.0) -> Edited:
    """Change one fact in one layer, W' = W + u (strength · (v* − W k*))ᵀ, and run the changed model on all probes.

    With `statistics`, u weighs directions by how much ordinary text uses them; without, it is k* alone. Kept.
    """
    target = find_value(model, fact, layer)
    detector = subject_detector(model, target, layer, statistics)
    change = np.float32(strength) * target.change
    streams, before = untouched(model, fact)

    def run() -> tuple[Effect, np.ndarray]:
        changed = edited_model(model, layer, detector, change)
        trace = Trace(f"blk.{layer}.ffn.hidden")
        positions = np.arange(streams[layer].shape[1])
        x = run_rest(changed, streams[layer], layer, positions, tap=EditingTap(trace, {}))
        return effect(changed, fact, x), largest_doses(fact, trace[f"blk.{layer}.ffn.hidden"] @ detector)

    after, doses = model.memo.get(("rank_one_edit", fact.prompt, fact.new, layer, statistics, strength), run)
    return Edited(target, detector, change, before, after, doses)


def subject_detector(model: Model, target: Target, layer: int, statistics: bool) -> Float[Array, "F"]:
    """u of the subject's key: with the statistics of a page of text, or of the key alone; kept."""
    if not statistics:
        return key_detector(target.key)
    key = ("subject_detector", target.ids, target.position, layer)
    detector: np.ndarray = model.memo.get(key, lambda: key_detector(target.key, text_keys(model)[layer]))
    return detector


def summary(edited: Edited, fact: Fact) -> dict[str, float]:
    """One edit in a few numbers, each a mean of probabilities over the probes of one kind."""

    def mean(kind: str, values: Float[Array, "probes"]) -> float:
        return float(np.mean([value for value, probe in zip(values, fact.probes, strict=True) if probe.kind == kind]))

    before, after = edited.before, edited.after
    return {
        "edited": mean("edited", after.new),  # the new answer, to the prompt itself
        "reworded": mean("reworded", after.new),  # the new answer, to the same question in other words
        "other": mean("other", after.answer),  # the right answer, where nothing should change
        "other_before": mean("other", before.answer),
        "loss": after.loss - before.loss,  # change of the loss on unrelated sentences, nats a token
    }


def untouched(model: Model, fact: Fact) -> tuple[dict[int, Float[Array, "rows T D"]], Effect]:
    """The fact's probes and the unrelated sentences in the model as it is: the stream before each of `LAYERS`; kept."""

    def run() -> tuple[dict[int, np.ndarray], Effect]:
        ids, _ = padded(texts_of(fact))
        last = model.config.layers - 1
        trace = Trace(*(f"blk.{layer - 1}.resid" for layer in LAYERS), f"blk.{last}.resid")
        run_rest(model, lookup(model.weights.embedding, ids), 0, np.arange(ids.shape[1]), tap=EditingTap(trace, {}))
        streams = {layer: trace[f"blk.{layer - 1}.resid"] for layer in LAYERS}
        return streams, effect(model, fact, trace[f"blk.{last}.resid"])

    return model.memo.get(("untouched", fact.prompt, fact.new), run)


def effect(model: Model, fact: Fact, x: Float[Array, "rows T D"]) -> Effect:
    """Read the answers off the last stream of all texts."""
    ids, lengths = padded(texts_of(fact))
    probes = len(fact.probes)
    p = softmax(logits_of(model, x[np.arange(probes), lengths[:probes] - 1]))
    answers = [encode(probe.answer, "smollm2")[0] for probe in fact.probes]
    rest = [(row, length) for row, length in enumerate(lengths) if row >= probes]
    read = np.concatenate([x[row, : length - 1] for row, length in rest])
    follow = np.concatenate([ids[row, 1:length] for row, length in rest])
    loss = np.mean(surprisal(logits_of(model, read), follow))
    new = encode(fact.new, "smollm2")[0]
    return Effect(p[np.arange(probes), answers], p[:, new], np.argmax(p, axis=-1), float(loss))


def largest_doses(fact: Fact, doses: Float[Array, "rows T"]) -> Float[Array, "probes"]:
    """For each probe the dose of the token that receives most of the change."""
    _, lengths = padded(texts_of(fact))
    rows = [doses[i, : lengths[i]] for i in range(len(fact.probes))]
    return np.array([row[np.argmax(np.abs(row))] for row in rows])


def texts_of(fact: Fact) -> tuple[str, ...]:
    """What the model is run on: the fact's probes, then the unrelated sentences."""
    return (*(probe.prompt for probe in fact.probes), *SENTENCES)


def padded(texts: Sequence[str]) -> tuple[Int[Array, "rows T"], Int[Array, "rows"]]:
    """Token ids in rows of one length, and how many of each row are real: no token sees what is filled in after it."""
    ids = [encode(text, "smollm2") for text in texts]
    longest = max(map(len, ids))
    return np.array([row + [0] * (longest - len(row)) for row in ids]), np.array([len(row) for row in ids])


@lru_cache(maxsize=1)
def text_keys(model: Model) -> dict[int, Float[Array, "n F"]]:
    """What the neurons of `LAYERS` do on a page of ordinary text, at each token but the first; kept (25 MB)."""
    ids = np.array(encode(TEXT.read_text("utf-8"), "smollm2"))
    trace = Trace(*(f"blk.{layer}.ffn.hidden" for layer in LAYERS))
    run_rest(model, lookup(model.weights.embedding, ids), 0, np.arange(len(ids)), tap=EditingTap(trace, {}))
    return {layer: trace[f"blk.{layer}.ffn.hidden"][1:] for layer in LAYERS}  # a first token's keys are like no other


@dataclass(frozen=True)
class OnText:
    """What the edit does to any text."""

    doses: Float[Array, "T"]  # k · u at each token
    before: Float[Array, "V"]  # probabilities of the next token
    after: Float[Array, "V"]
    losses: tuple[float, float] | None  # mean surprisal before and after; None for a text of one token


def on_text(model: Model, edited: Edited, layer: int, ids: Sequence[int]) -> OnText:
    """Run the changed model on a text, from the changed layer on."""
    trace, text = model.trace(ids), np.asarray(ids)
    changed = edited_model(model, layer, edited.detector, edited.change)
    before = trace[f"blk.{layer - 1}.resid" if layer else "embed"]
    logits = logits_of(changed, run_rest(changed, before, layer, np.arange(len(text))))
    doses = trace[f"blk.{layer}.ffn.hidden"] @ edited.detector
    losses = None
    if len(text) > 1:
        was, now = (float(np.mean(surprisal(each[:-1], text[1:]))) for each in (trace["logits"], logits))
        losses = was, now
    return OnText(doses, softmax(trace["logits"][-1]), softmax(logits[-1]), losses)
