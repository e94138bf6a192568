"""The introduction: one sentence through the whole model, each stage with its own first numbers."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine.embeddings import lookup
from engine.ledger import CONFIGS, total_parameters
from engine.lens import logit_lens
from engine.model import Model
from engine.sampling import entropy, sample, softmax
from engine.weights import SOURCES
from pages._reading import piece, read, spoken, the_model, written
from ui.chapter import BOOK, Chapter
from ui.controls import Slider
from ui.figures import bars, matrix, readouts, stack, stage, tokens, words
from ui.lab import Preset, ReaderError
from ui.mathml import number

chapter = Chapter(__name__, Path(__file__).parent)

SHOWN = 8
"""How many candidates and how many numbers of a vector are shown."""


@chapter.lab(
    "path",
    title="Your sentence, all the way through",
    controls=[
        Slider("temperature", "Temperature", 1.0, 0.0, 2.0, 0.05),
        Slider("seed", "Seed of the draw", 1, 0, 99),
        Slider("length", "Tokens to write", 1, 1, 16),
    ],
    runs=[Model.forward, lookup, logit_lens, softmax, sample],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.sampling import sample
        from engine.tokenization import decode, encode

        model, ids = load(), encode({sentence!r}, "smollm2")[:48]
        logits = model.trace(ids)["logits"][-1]
        drawn = sample(logits, np.random.default_rng({seed}), {temperature})
        token = np.array(drawn.token)
        print(decode([drawn.token], "smollm2"), drawn.draw)
    """,
    provenance="SmolLM2-135M with its real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("No chance at all", {"temperature": 0}, "Temperature 0 always takes the likeliest token."),
        Preset("Wild", {"temperature": 1.8, "length": 12}, "A high temperature lets unlikely tokens in."),
        Preset("Twelve tokens", {"length": 12}, "Each new token is fed back in."),
    ],
    height=(1500, 2418),
)
def path(sentence: str, temperature: float, seed: int, length: int) -> tuple[Any, ...]:
    reading = read(sentence)
    trace, model = reading.trace, reading.model
    names, last = [*reading.pieces], spoken(reading.pieces[-1])
    lens = logit_lens(model, trace, slice(-1, None))
    logits = trace["logits"][-1]
    p = softmax(logits, temperature)
    drawn = sample(logits, np.random.default_rng(seed), temperature)
    top = np.argsort(-p, kind="stable")[:SHOWN]
    candidates = [*top] if drawn.token in top else [*top[:-1], drawn.token]
    continuation = _write(model, reading.ids, temperature, seed, length)
    picture = stack(
        stage("Text", "What you typed.", "", words(sentence.strip())),
        stage(
            "Tokens",
            f"{len(names)} pieces, each with its number in a list of {model.config.vocabulary:,}.",
            "/tokenization",
            tokens([{"text": name, "id": i} for name, i in zip(names, reading.ids, strict=True)], show=["plain"]),
        ),
        stage(
            "Vectors",
            f"Each number picks a row of {model.config.width} learned numbers. Here are the first {SHOWN} of each.",
            "/embeddings",
            matrix(trace["embed"][:12, :SHOWN], "", "resid", "embed", rows=names[:12], digits=3),
        ),
        stage(
            "Blocks",
            f"{model.config.layers} times: look at the earlier tokens, then work on each. After every block, what "
            f"“{last}” would lead to if the model stopped there.",
            "/block",
            tokens(_lens_pieces(lens), shares=lens.probabilities[:, 0], show=["no-ids"]),
        ),
        stage(
            "Logits",
            f"One score for each of the {model.config.vocabulary:,} tokens. The highest {SHOWN}:",
            "/sampling",
            bars([piece(int(i)) for i in top], logits[top], title="", tensor="logits"),
        ),
        stage(
            "Sampling",
            f"At temperature {temperature:g} the scores become shares, and one random number picks.",
            "/sampling",
            stack(
                bars(
                    [piece(int(i)) for i in candidates],
                    p[candidates],
                    title="",
                    tensor="logits",
                    share=True,
                    marked=[candidates.index(drawn.token)],
                    limit=float(p.max()),
                ),
                readouts(
                    [
                        ("random number", f"{drawn.draw:.4f}"),
                        ("picked", f"“{spoken(piece(drawn.token))}”"),
                        ("its share", f"{p[drawn.token]:.2%}"),
                        ("entropy", f"{float(entropy(p)):.2f} nats"),
                    ]
                ),
            ),
        ),
        stage(
            "Output",
            "The token is added, and everything starts again with the longer text."
            if length == 1
            else f"Written one token at a time, {length} tokens.",
            "/sampling",
            words(sentence.strip() + continuation, style="output"),
        ),
    )
    text = (
        f"{reading.note}After “{last}” the model finds “{spoken(piece(int(top[0])))}” likeliest, with {p[top[0]]:.1%}. "
        f"The draw of {drawn.draw:.3f} picked “{spoken(piece(drawn.token))}”."
    )
    formula = _share_formula(float(logits[drawn.token]), temperature, float(p[drawn.token]))
    return picture, text, formula, {"logits": logits, "probabilities": p, "token": np.array(drawn.token)}


def _share_formula(logit: float, temperature: float, share: float) -> str:
    if temperature == 0:
        return r"\text{temperature 0: the token with the largest } \logits{z}"
    divided = "" if temperature == 1 else f"/{number(temperature)}"
    powers = rf"e^{{{number(logit)}{divided}}}", rf"\sum_j e^{{\logits{{z_j}}{divided}}}"
    return rf"p = \frac{{{powers[0]}}}{{{powers[1]}}} = {number(share)}"


def _write(model: Model, ids: tuple[int, ...], temperature: float, seed: int, length: int) -> str:
    """The continuation, drawn with the same seed as the first token shown."""
    rng = np.random.default_rng(seed)
    choose = partial(_drawn, rng=rng, temperature=temperature)
    return written(step.id for step in model.generate(ids, length, choose=choose))


def _drawn(logits: np.ndarray, ids: list[int], *, rng: np.random.Generator, temperature: float) -> int:
    return sample(logits, rng, temperature).token


def _lens_pieces(lens: Any) -> list[dict[str, str]]:
    labels = ["start", *[str(i + 1) for i in range(len(lens.ids) - 1)]]
    return [
        {"text": piece(int(token)), "note": f"{label}: {share:.0%}"}
        for label, token, share in zip(labels, lens.ids[:, 0], lens.probabilities[:, 0], strict=True)
    ]


def prepare_model() -> None:
    """The first time, expanding the weights takes seconds: better now than under a reader's eyes."""
    try:
        the_model()
    except ReaderError as missing:
        logging.getLogger("glassbox").warning("%s", missing)


BOOK.before_serving.append(prepare_model)


# --- numbers of the prose ------------------------------------------------------------


@chapter.number
def parameters() -> str:
    return f"{total_parameters(CONFIGS['SmolLM2-135M']):,}"


@chapter.number
def layers() -> int:
    return SOURCES["smollm2"].config.layers


@chapter.number
def vocabulary() -> str:
    return f"{SOURCES['smollm2'].config.vocabulary:,}"


@chapter.number
def written_chapters() -> int:
    return sum(entry.written and entry.number > 0 for entry in BOOK.entries)


@chapter.number
def unwritten_chapters() -> int:
    return sum(not entry.written for entry in BOOK.entries)


# --- check yourself ------------------------------------------------------------


@chapter.answer
def candidates() -> int:
    """How many tokens the model scores at every step."""
    return SOURCES["smollm2"].config.vocabulary


@chapter.answer
def outcomes_at_zero() -> int:
    """How many different tokens a hundred seeds draw at temperature 0."""
    logits = np.array([2.0, 1.9, 1.8, 0.5, -1.0])
    return len({sample(logits, np.random.default_rng(seed), 0.0).token for seed in range(100)})


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
