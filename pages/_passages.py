"""What the page around the model shows and says of passages, scores, prompts and what the model wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from engine import retrieval
from engine import retrieval_study as study
from engine.chat_template import Rendered
from engine.model import END_IDS
from engine.model_files import ModelBroken, ModelMissing
from engine.retrieval import Encoder, Ranking
from engine.retrieval_study import Said
from engine.tokenization import token_bytes
from pages._chips import label
from pages._continuations import small_share
from pages._reading import ENCODING, piece
from ui.figures import Picture, bars, table, tokens, words
from ui.lab import ReaderError

SIZES = {"0": "paragraphs", "30": "30 words", "60": "60 words", "120": "120 words"}
OVERLAPS = {"0": "nothing", "4": "a quarter", "2": "half"}
DOCUMENT_LIMIT = 6_000
SHOWN = 8
"""Passages that a ranking shows."""


def encoder() -> tuple[Encoder | None, str]:
    """MiniLM, or None and a sentence that says why not and what works without it."""
    try:
        return Encoder.load(), ""
    except (ModelMissing, ModelBroken) as problem:
        return None, f"{problem} BM25 works without it. "


def document(own: str) -> str:
    """The reader's document, or the built-in one."""
    return own if own.strip() else study.handbook()


def passages_of(own: str, size: str, overlap: str) -> list[str]:
    """The document's passages as the controls say."""
    count = int(size)
    return study.cut(document(own), count, count // int(overlap) if int(overlap) else 0)


def asked(question: str) -> str:
    """The question, which must have something to look for."""
    if not retrieval.terms(question):
        raise ReaderError("Type a question with at least one word.")
    return question


def opening(passage: str, length: int = 34) -> str:
    """How a passage begins, as a label."""
    plain = " ".join(passage.split())
    return plain if len(plain) <= length else plain[: length - 1].rstrip() + "…"


def ranking_bars(
    title: str, ranking: Ranking, passages: Sequence[str], taken: int, picked: int, tensor: str, digits: int
) -> Picture:
    """The best passages by their score; those that go into the prompt are marked, a click opens one."""
    best = ranking.order[:SHOWN]
    return bars(
        [f"{i + 1} {opening(passages[i], 15)}" for i in best],
        [max(float(ranking.scores[i]), 0.0) for i in best],
        title=title,
        tensor=tensor,
        texts=[f"{ranking.scores[i]:.{digits}f}".replace("-", "−") for i in best],
        keys=[f"passage:{i}" for i in best],
        marked=range(min(taken, len(best))),
        pick="passage",
        picks=list(best),
        picked=best.index(picked) if picked in best else None,
    )


def passage_text(passages: Sequence[str], number: int, title: str = "") -> Picture:
    """One passage in full."""
    return words(passages[number], title=title or f"Passage {number + 1} of {len(passages)}")


def named(number: int) -> str:
    """A passage inside a sentence."""
    return f"{{{{passage:{number}|passage {number + 1}}}}}"


def share(value: float) -> str:
    """A probability that may be tiny, in a sentence."""
    return (
        f"{value:.1%}"
        if value >= 0.001
        else "0"
        if value == 0
        else f"{value:.0e}".replace("e-0", "e−").replace("e-", "e−")
    )


def factor(log_ratio: float) -> str:
    """How many times as much, from the logarithm of the ratio."""
    value = math.exp(min(log_ratio, 30.0))
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else share(value)


def said_words(said: Sequence[Said]) -> str:
    """What the model wrote, with dots where it was cut off before its own end."""
    return study.said_text(said) + (" …" if not said or said[-1].id not in END_IDS else "")


def said_chips(said: Sequence[Said], title: str, *, allowed: bool = False) -> Picture:
    """What the model wrote: each token as dark as it was likely, its probability on it."""
    return tokens(
        [
            {"text": piece(token.id), "note": small_share(token.allowed if allowed else token.probability)}
            for token in said
        ],
        title=title,
        show=["no-ids"],
        shares=[token.probability for token in said],
    )


def template_chips(rendered: Rendered, title: str, most: int = 400) -> Picture:
    """The tokens that go in, special ones standing out."""
    ids = [(i, part.special) for part in rendered.parts for i in part.ids]
    return tokens(
        [{"text": piece(i), "id": i, **({"note": "special"} if special else {})} for i, special in ids[:most]],
        title=title + (f" (the first {most} of {len(ids)})" if len(ids) > most else ""),
        marked=[place for place, (_, special) in enumerate(ids[:most]) if special],
    )


def likeliest(probabilities: np.ndarray, count: int, title: str, also: Sequence[int] = ()) -> Picture:
    """The likeliest next tokens as bars, and those in `also` wherever they stand."""
    best = [int(i) for i in np.argsort(-probabilities)[:count]]
    shown = [*best, *(i for i in also if i not in best)]
    return bars(
        [label(token_bytes(i, ENCODING)) for i in shown],
        [float(probabilities[i]) for i in shown],
        title=title,
        tensor="logits",
        share=True,
        keys=[f"token:{i}" for i in shown],
        marked=[shown.index(i) for i in also],
    )


def bm25_table(found: study.Ingredients) -> Picture:
    """The terms of the question with everything that BM25 makes of them."""
    w, n = found.words, found.passage
    held = [f"{count:.0f} of {len(w.lengths)}" for count in w.holding]
    lines = [
        [term, int(w.counts[n, t]), held[t], f"{w.rarity[t]:.3f}", f"{w.parts[n, t]:.3f}"]
        for t, term in enumerate(w.terms)
    ]
    return table(
        ["term", "times here", "passages with it", "rarity", "adds"],
        lines,
        title=f"BM25 {w.scores[n]:.3f}: exact words; the passage's length stretches the count by {w.stretch[n]:.3f}",
        marked=[t for t in range(len(w.terms)) if w.counts[n, t]],
    )
