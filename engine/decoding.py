"""Ways to write a continuation, each token from a new run of the model: greedy, drawn, beam search, penalised.

All of them grow side by side: one run of the model per token serves every text, on one KV cache, because reading the
weights takes most of the time and is needed once for all. Sources: the loops of greedy decoding and the dullness of
beams, Holtzman et al. 2019, arXiv:1904.09751; the penalty, Keskar et al. 2019, arXiv:1909.05858.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.model import END_IDS, Ids, Model
from engine.sampling import (
    Beam,
    BeamSearch,
    beam_round,
    log_softmax,
    repetition_penalty,
    sample,
    sample_many,
    unfinished,
)

Text = tuple[int, ...]
Choose = Callable[[Float[Array, "V"], Text], int]


class Branches:
    """Next-token logits of texts that begin alike and grow side by side.

    Every call gives texts one token longer than some text of the call before; each goes on from the keys and values of
    that parent, whether it has none, one or several children. Equal texts are run once. The first `known` tokens of the
    start come from the trace that the model keeps, so that what other studies have read is not read again.
    """

    def __init__(self, model: Model, start: Ids, room: int, known: int | None = None) -> None:
        """`room`: how many tokens the texts will grow at most; `known`: all of the start, unless given."""
        self.model, self.texts = model, [tuple(map(int, start))]
        text = self.texts[0]
        trace = model.trace(text[:known])
        self.cache = model.new_cache(len(text) + room, batch=1)
        for i in range(model.config.layers):
            self.cache.extend(i, trace[f"blk.{i}.attn.k"][None], trace[f"blk.{i}.attn.v"][None])
        self.cache.advance(len(trace["logits"]))
        unread = np.array([text[self.cache.length :]])
        self.logits = model.forward(unread, self.cache, last_only=True)[:, 0] if unread.size else trace["logits"][-1:]

    def __call__(self, texts: Sequence[Text]) -> Float[Array, "B V"]:
        """A row for each text. Raises ValueError for a text that does not continue one of the call before."""
        different = list(dict.fromkeys(texts))
        if different != self.texts:
            parents = [self._parent(text) for text in different]
            self.cache.reorder(parents)
            newest = np.array([text[-1:] for text in different])
            self.logits = self.model.forward(newest, self.cache, last_only=True)[:, 0]
            self.texts = different
        return self.logits[[different.index(text) for text in texts]]

    def _parent(self, text: Text) -> int:
        if text[:-1] not in self.texts:
            raise ValueError("Each text must be one token longer than a text of the step before.")
        return self.texts.index(text[:-1])


# Ways to go on --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One text that grows by whatever `choose` makes of the logits; it ends where the model ends it."""

    start: Text
    choose: Choose
    ids: Text = ()
    log_p: tuple[float, ...] = ()  # of each token, as the model has it, whatever the choice made of it
    rows: tuple[Float[Array, "V"], ...] | None = None  # () to keep the logits that each token was chosen from

    @property
    def total(self) -> float:
        """log p of all that was written, given the start."""
        return math.fsum(self.log_p)

    @property
    def texts(self) -> list[Text]:
        """The text, unless it has ended."""
        return [] if self.ids and self.ids[-1] in END_IDS else [(*self.start, *self.ids)]

    def after(self, logits: Float[Array, "B V"]) -> Line:
        """One token longer, if it still grows."""
        if not len(logits):
            return self
        token = self.choose(logits[0], (*self.start, *self.ids))
        rows = None if self.rows is None else (*self.rows, logits[0])
        log_p = float(log_softmax(logits[0])[token])
        return replace(self, ids=(*self.ids, token), log_p=(*self.log_p, log_p), rows=rows)


@dataclass(frozen=True)
class Beams:
    """Several texts of which the most probable survive each round."""

    width: int
    rounds: tuple[tuple[Beam, ...], ...]

    @property
    def texts(self) -> list[Text]:
        """The beams that have not ended."""
        return unfinished(self.rounds[-1])

    def after(self, logits: Float[Array, "B V"]) -> Beams:
        """One round later, if any beam still grows."""
        if not len(logits):
            return self
        return replace(self, rounds=(*self.rounds, beam_round(self.rounds[-1], logits, self.width, END_IDS)))


def side_by_side(
    model: Model,
    start: Ids,
    lines: Sequence[Line],
    length: int,
    searches: Sequence[Beams] = (),
    known: int | None = None,
) -> tuple[list[Line], list[Beams]]:
    """Every way `length` tokens further (fewer where all have ended), with one run of the model for each token."""
    step = Branches(model, start, length, known)
    for _ in range(length):
        texts = [line.texts for line in lines] + [search.texts for search in searches]
        if not any(texts):
            break
        logits = step([text for part in texts for text in part])
        rows = iter(np.split(logits, np.cumsum([len(part) for part in texts])[:-1]))
        lines = [line.after(next(rows)) for line in lines]
        searches = [search.after(next(rows)) for search in searches]
    return list(lines), list(searches)


def likeliest(logits: Float[Array, "V"], text: Text) -> int:
    """Greedy: the largest logit."""
    return int(np.argmax(logits))


def drawn(seed: int, temperature: float) -> Choose:
    """One uniform number a token, from a generator with this seed."""
    rng = np.random.default_rng(seed)
    return lambda logits, text: sample(logits, rng, temperature).token


def given(ids: Sequence[int]) -> Choose:
    """Tokens decided beforehand; what the model says is only recorded."""
    waiting = iter(ids)
    return lambda logits, text: int(next(waiting))


def penalised(penalty: float) -> Choose:
    """The largest logit after every token that the text already has was penalised."""
    return lambda logits, text: int(np.argmax(repetition_penalty(logits, text, penalty)))


# What the page compares -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ways:
    """Four continuations of one text, each up to `length` tokens."""

    greedy: Line
    drawn: Line
    frozen: Line  # drawn from the first distribution alone, with the same random numbers; log_p as the model reads it
    beams: BeamSearch


def four_ways(model: Model, start: Ids, *, width: int, temperature: float, seed: int, length: int) -> Ways:
    """Greedy, drawn, drawn without ever running the model again, and beam search; kept by the model's memo.

    All four grow together when a text is new; for other draws from a known text only the draws are made anew.
    """
    text, settings = tuple(map(int, start)), (temperature, seed)
    first = model.trace(text)["logits"][-1]

    def draws() -> list[Line]:
        frozen = sample_many(first, np.random.default_rng(seed), length, temperature).tolist()
        return [Line(text, drawn(seed, temperature)), Line(text, given(frozen))]

    def everything() -> tuple[tuple[float, int], list[Line], Beams]:
        lines, (beams,) = side_by_side(
            model, text, [*draws(), Line(text, likeliest)], length, [beams_from(text, width)]
        )
        return settings, lines, beams

    known_draws, (random, frozen, greedy), beams = model.memo.get(("ways", text, width, length), everything)
    if known_draws != settings:
        random, frozen = model.memo.get(
            ("draws", text, length, *settings), lambda: side_by_side(model, text, draws(), length)[0]
        )
    return Ways(greedy, random, frozen, BeamSearch(beams.rounds[-1], beams.rounds))


def beams_from(text: Text, width: int) -> Beams:
    """A beam search that has not begun."""
    return Beams(width, ((Beam(text, 0.0),),))


def step_log_p(search: BeamSearch, beam: Beam) -> list[float]:
    """The log-probability of each token of a final beam: how much its ancestors lost from round to round."""
    known = {old.ids: old.log_probability for beams in search.rounds for old in beams}
    start = len(search.rounds[0][0].ids)
    return [known[beam.ids[: i + 1]] - known[beam.ids[:i]] for i in range(start, len(beam.ids))]


def penalty_study(
    model: Model, start: Ids, penalties: Sequence[float], length: int, known: int | None = None
) -> list[Line]:
    """A greedy continuation under each repetition penalty, with the logits of every step; `known` as in `Branches`."""
    text = tuple(map(int, start))
    return side_by_side(
        model, text, [Line(text, penalised(penalty), rows=()) for penalty in penalties], length, known=known
    )[0]


def doubled(text: str) -> str:
    """A text said twice, as two sentences: after this, many a model says it a third time."""
    text = text.strip()
    return f"{text} {text}" if text[-1:] in ".!?。！？" else f"{text}. {text}"


def shared_start(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many equal tokens two texts begin."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def seen_before(start: Sequence[int], written: Sequence[int]) -> list[bool]:
    """For each token written: was it in the text already, start included?"""
    text = [*start, *written]
    return [text[i] in text[:i] for i in range(len(start), len(text))]


def period(text: Sequence[int]) -> int:
    """How many tokens long the loop is that the text ends in: its last n tokens are the n before them. 0 if none."""
    text = list(text)
    return next((n for n in range(1, len(text) // 2 + 1) if text[-n:] == text[-2 * n : -n]), 0)


# One token at a time --------------------------------------------------------------------------------------------------


def next_logits(model: Model, start: Ids, chosen: Sequence[int]) -> Float[Array, "n V"]:
    """What each of the chosen tokens was chosen from, and what the next one is: rows 0 … len(chosen).

    The model reads the whole text anew, without a cache; the rows are kept by the model's memo, read-only.
    """
    text = (*map(int, start), *map(int, chosen))

    def run() -> Float[Array, "n V"]:
        logits = model.forward(text)[len(start) - 1 :].copy()
        logits.setflags(write=False)
        return logits

    return model.memo.get(("next", len(start), text), run)


def nth_draw(seed: int, n: int) -> float:
    """The uniform number that a generator with this seed gives at its n-th call, from 0."""
    return float(np.random.default_rng(seed).random(n + 1)[n])
