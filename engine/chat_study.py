"""The real model asked plainly and through its chat template, and which tokens of an example are learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from engine.arrays import Array
from engine.chat_template import render, turns
from engine.model import END_IDS, Model
from engine.post_training import masked_loss
from engine.sampling import most_likely, softmax, surprisal
from engine.tokenization import encode

CANDIDATES = 8
LENGTHS = (8, 24, 48)
FRAMES = {"plain": "{}", "form": "Question: {}\nAnswer:", "list": "Frequently asked questions\n\n1. {}"}


@dataclass(frozen=True)
class Said:
    """One token of an answer: the likeliest, with those that it was chosen from."""

    id: int
    candidates: tuple[int, ...]
    probabilities: tuple[float, ...]

    @property
    def p(self) -> float:
        return self.probabilities[0]


def asked_plainly(question: str, frame: str = "plain") -> list[int]:
    """The question as ordinary text, alone or in a frame that calls for an answer. Raises ValueError for no frame."""
    if frame not in FRAMES:
        raise ValueError(f"A question is framed as one of {', '.join(FRAMES)}, not {frame}.")
    return encode(FRAMES[frame].replace("{}", question), "smollm2")


def asked_in_chat(question: str) -> list[int]:
    """The same question as the user's turn, with the assistant's turn opened."""
    return list(render([{"role": "user", "content": question}]).ids)


def continued(model: Model, ids: Sequence[int], tokens: int) -> tuple[Said, ...]:
    """The likeliest token, again and again, until the model ends the text; kept, and longer from shorter ones."""
    shorter = max((length for length in LENGTHS if length < tokens), default=0)
    before = continued(model, ids, shorter) if shorter else ()
    if before and before[-1].id in END_IDS:
        return before

    def run() -> tuple[Said, ...]:
        text = [*ids, *(said.id for said in before)]
        return (*before, *(_said(step.logits) for step in model.generate(text, tokens - len(before))))

    return model.memo.get(("said", tuple(ids), tokens), run)


def _said(logits: Float[Array, "V"]) -> Said:
    best = most_likely(logits, CANDIDATES)
    return Said(int(best[0]), tuple(map(int, best)), tuple(map(float, softmax(logits)[best])))


@dataclass(frozen=True)
class Example:
    """A question with the answer that is to be learned, as the model gets it."""

    ids: tuple[int, ...]
    counts: Bool[Array, "T"]  # the answer's tokens, its end included
    surprisals: Float[Array, "T"]  # in nats; the first token has none, and 0 here
    masked: float  # mean over the tokens that count
    unmasked: float  # mean over all


MOST = 160  # tokens of a dialogue, its template included


def dialogue(question: str, answer: str, most: int = MOST) -> tuple[list[int], Bool[Array, "T"]]:
    """The ids of a finished exchange in the chat template, at most so many, and which of them are the answer's."""
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    ids = list(render(said, add_generation_prompt=False).ids)[:most]
    counted = {i for turn in turns(ids) if turn.role == "assistant" for i in range(turn.start, turn.end)}
    return ids, np.array([i in counted for i in range(len(ids))])


def example(model: Model, question: str, answer: str) -> Example:
    """Every token's surprisal, and the loss with the prompt's tokens masked and without; kept.

    Raises ValueError for no answer.
    """
    ids, counts = dialogue(question, answer)
    if not np.any(counts):
        raise ValueError("The question fills the whole room; make it shorter, so that there are tokens of an answer.")

    def run() -> tuple[Array, float, float]:
        logits, targets = model.forward(ids)[:-1], np.array(ids[1:])
        lost = np.concatenate([[0.0], surprisal(logits, targets)])
        losses = [float(masked_loss(logits, targets, wanted)) for wanted in (counts[1:], np.ones(len(targets)))]
        return lost, losses[0], losses[1]

    lost, masked, unmasked = model.memo.get(("example", tuple(ids), tuple(counts.tolist())), run)
    return Example(tuple(ids), counts, lost, masked, unmasked)
