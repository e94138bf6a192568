"""What the page on retrieval shows: the built-in document, held questions, where a cosine comes from, the prompt.

The document (data/handbook.txt) and its questions are this project's own, about a ship that does not exist: no model
can know the answers, so what it says of them comes from the passages or from nowhere. Fusing two rankings: Cormack,
Clarke and Buettcher 2009, "Reciprocal Rank Fusion". Passages in the prompt: Lewis et al. 2020, arXiv:2005.11401.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.chat_template import Rendered, render
from engine.model import END_IDS, Model
from engine.retrieval import BM25, Encoder, Ranking, bm25, bm25_in_full, chunk, ranked
from engine.sampling import log_softmax, softmax, surprisal
from engine.tokenization import decode, encode

DATA = Path(__file__).parent.parent / "data"
MOST_PASSAGES = 120


@dataclass(frozen=True)
class Held:
    """A question about the handbook; the right passage is the one that has the phrase `holds`."""

    ask: str
    holds: str


@lru_cache(maxsize=1)
def handbook() -> str:
    """The built-in document."""
    return (DATA / "handbook.txt").read_text("utf-8").strip()


QUESTIONS = {"asked": "handbook_questions.toml", "reworded": "handbook_questions_reworded.toml"}


@lru_cache(maxsize=2)
def held_questions(kind: str = "asked") -> tuple[Held, ...]:
    """Twenty questions, as one would ask them, or twenty others "reworded": in other words than the handbook's."""
    listed = tomllib.loads((DATA / QUESTIONS[kind]).read_text("utf-8"))
    return tuple(Held(**line) for line in listed["question"])


def cut(text: str, size: int, overlap: int) -> list[str]:
    """The passages of a document: its paragraphs for a `size` of 0, else chunks of so many words.

    Raises ValueError for a document without words, and for more than 120 passages.
    """
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    found = chunk(text, size, overlap) if size else paragraphs
    if not found:
        raise ValueError("The document is empty.")
    if len(found) > MOST_PASSAGES:
        raise ValueError(f"These are {len(found)} passages, and the lab takes {MOST_PASSAGES}: cut larger ones.")
    return found


def whole_sentences(text: str, passages: Sequence[str]) -> tuple[int, int]:
    """How many sentences of a text stand whole in one of its passages, and how many it has.

    A sentence ends at . ! ? or … before white space, or with its paragraph; abbreviations are not known.
    """
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    sentences = [s for part in paragraphs for s in re.split(r"(?<=[.!?…])\s", part) if s]
    flat = [" ".join(passage.split()) for passage in passages]
    return sum(any(sentence in passage for passage in flat) for sentence in sentences), len(sentences)


def right_passages(passages: Sequence[str], phrase: str) -> list[int]:
    """The passages that hold a phrase, however it is broken into lines."""
    return [i for i, passage in enumerate(passages) if phrase in " ".join(passage.split())]


def fused(*rankings: Ranking, k: int = 60) -> Ranking:
    """Reciprocal rank fusion: each passage scores the sum of 1 / (k + its place) over the rankings."""
    count = len(rankings[0].order)
    return ranked(np.array([sum(1 / (k + ranking.place(i)) for ranking in rankings) for i in range(count)]))


def rankings(encoder: Encoder | None, passages: Sequence[str], question: str) -> dict[str, Ranking]:
    """The passages ranked by "cosine", by "BM25", and by "both"; without an encoder by BM25 alone."""
    words = ranked(bm25(passages, question))
    if encoder is None:
        return {"BM25": words}
    meaning = ranked(encoder.embed(passages) @ encoder.embed([question])[0])
    return {"cosine": meaning, "BM25": words, "both": fused(meaning, words)}


def held_places(encoder: Encoder | None, passages: Sequence[str], kind: str = "asked") -> dict[str, list[int]]:
    """For each way of ranking: the place of the right passage for each held question, 0 where it was cut in two."""
    found: dict[str, list[int]] = {}
    for held in held_questions(kind):
        right = right_passages(passages, held.holds)
        for way, ranking in rankings(encoder, passages, held.ask).items():
            found.setdefault(way, []).append(min((ranking.place(i) for i in right), default=0))
    return found


# Where a score comes from --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ingredients:
    """One question against one passage, both scores taken apart by the question's words."""

    tokens: tuple[str, ...]  # of the question, as the encoder reads them; () without it
    parts: Float[Array, "T"]  # what each token's vector adds to the cosine; they sum to it
    products: Float[Array, "D"]  # what each of the 384 dimensions adds; they sum to it too
    words: BM25
    passage: int

    @property
    def cosine(self) -> float:
        """The sum of the products: both vectors have length 1."""
        return float(np.sum(self.products))


def ingredients(encoder: Encoder | None, passages: Sequence[str], passage: int, question: str) -> Ingredients:
    """Both scores of passages[passage]. The question's vector is a mean of its tokens', so the cosine is a sum too."""
    words = bm25_in_full(passages, question)
    if encoder is None:
        return Ingredients((), np.zeros(0), np.zeros(0), words, passage)
    target = encoder.embed([passages[passage]])[0]
    states = encoder.states(question)
    mean = np.mean(states, axis=0)
    size = np.sqrt(np.sum(mean * mean))
    parts = states @ target / (len(states) * size)
    return Ingredients(tuple(encoder.tokens(question)), parts, mean / size * target, words, passage)


# The prompt and the answer -------------------------------------------------------------------------------------------

ASK = "Answer from the passages alone."


def prompt(question: str, passages: Sequence[str], system: str = "") -> Rendered:
    """The conversation that asks the question, the passages before it, in the model's chat template.

    With passages the system message asks to answer from them, unless another is given.
    """
    numbered = [f"Passage {number}: {' '.join(passage.split())}" for number, passage in enumerate(passages, 1)]
    asked = "\n\n".join([*numbered, f"Question: {question}"]) if passages else question
    told = system or (ASK if passages else "")
    said = [{"role": "system", "content": told}] if told else []
    return render([*said, {"role": "user", "content": asked}])


@dataclass(frozen=True)
class Said:
    """One token that the model wrote."""

    id: int
    probability: float
    allowed: float = 1.0  # the probability of all tokens that could be written here


def say(model: Model, ids: Sequence[int], tokens: int) -> Iterator[Said]:
    """The model's own continuation, the likeliest token each time, until it ends its turn."""
    for step in model.generate(ids, tokens):
        yield Said(step.id, float(softmax(step.logits)[step.id]))


def said_text(said: Sequence[Said]) -> str:
    """What was said, without the token that ends it."""
    return decode([token.id for token in said if token.id not in END_IDS], "smollm2")


@dataclass(frozen=True)
class Reply:
    """What the model would say after a prompt: its own answer, and how likely it finds some given ones."""

    said: tuple[Said, ...]
    log_p: tuple[float, ...]  # of each given answer, all of its tokens


def reply(model: Model, ids: Sequence[int], answers: Sequence[str], tokens: int) -> Reply:
    """The answer, greedily, and the log-probabilities of `answers`. The prompt is read once and kept in the cache."""
    parts = [encode(answer, "smollm2") for answer in answers]
    cache = model.new_cache(len(ids) + max([tokens, *map(len, parts)]))
    first = model.forward(ids, cache, last_only=True)
    log_p = []
    for part in parts:
        cache.rewind(len(ids))
        logits = np.concatenate([first, model.forward(part[:-1], cache)]) if len(part) > 1 else first
        log_p.append(-float(np.sum(surprisal(logits, np.array(part)))))
    cache.rewind(len(ids))
    said: list[Said] = []
    logits = first[0]
    while len(said) < tokens and not (said and said[-1].id in END_IDS):
        if said:
            logits = model.forward([said[-1].id], cache, last_only=True)[0]
        best = int(np.argmax(logits))
        said.append(Said(best, float(softmax(logits)[best])))
    return Reply(tuple(said), tuple(log_p))


def next_tokens(model: Model, ids: Sequence[int]) -> Float[Array, "V"]:
    """Probabilities of the token that comes after."""
    return np.exp(log_softmax(model.forward(ids, last_only=True))[0])
