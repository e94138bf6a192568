"""Putting it together: the sentence through everything, token after token, and a self-test over all chapters."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import self_test
from engine.block import prefill_flops
from engine.journey import Stop, journey, lens_depths, strongest_neurons
from engine.kv_cache import decode_flops, plan
from engine.ledger import CONFIGS, total_parameters
from engine.model import END_IDS, Model
from engine.sampling import entropy, most_likely, sample, softmax, surprisal
from pages._chips import many
from pages._continuations import bar_label
from pages._reading import Reading, piece, read, spoken, written
from ui.chapter import BOOK, Chapter, right_choice
from ui.chapter import written as in_words
from ui.controls import Choice, Slider
from ui.figures import arcs, bars, heads_map, matrix, quiz, readouts, stack, stage, stretches, tokens, words
from ui.lab import Preset, ReaderError, Shown
from ui.mathml import number
from ui.prose import inline

chapter = Chapter(__name__, Path(__file__).parent)

CONFIG = CONFIGS["SmolLM2-135M"]
LENGTH = 8
"""Tokens that are written."""
READ = 20
"""Tokens of the sentence that are read."""
SHOWN = 6
NUMBERS = 8
PAIRS = (0, 4, 8, 16, 24, 31)


# --- the whole way ---------------------------------------------------------------------------------------------------


@chapter.lab(
    "journey",
    title="Your sentence through everything",
    controls=[
        Slider("step", "Run of the model", 1, 1, LENGTH),
        Slider("block", "Block to look into", 14, 0, CONFIG.layers - 1),
        Slider("head", "Head of that block", 4, 0, CONFIG.heads - 1),
        Choice(
            "temperature", "Temperature", "0.8", options={"0": "0, no chance", "0.8": "0.8", "1": "1", "1.5": "1.5"}
        ),
        Choice("seed", "Seed of the draws", "1", options={str(i): str(i) for i in range(1, 7)}),
    ],
    runs=[journey, Model.forward, sample],
    snippet="""
        import numpy as np
        from engine.journey import journey
        from engine.model import load
        from engine.tokenization import decode, encode

        stops = journey(load(), encode({sentence!r}, "smollm2")[:20], 8, {temperature}, {seed})
        chosen = np.array([stop.chosen for stop in stops])
        print(decode([int(token) for token in chosen], "smollm2"))
    """,
    provenance="SmolLM2-135M with its real weights and its cache, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("The first run", {"step": 1}, "The whole sentence is read at once. Everything after it is cheaper."),
        Preset("The second run", {"step": 2}, "A single token is read; all the others come out of the cache."),
        Preset("No chance", {"temperature": "0", "step": LENGTH}, "The likeliest token every time."),
        Preset("Hot", {"temperature": "1.5", "step": LENGTH}, "Look how small a share can win."),
        Preset("The last block", {"block": CONFIG.layers - 1}, "Where the answer is put into its final form."),
    ],
    height=(2600, 3995),
)
def the_journey(sentence: str, step: int, block: int, head: int, temperature: str, seed: str) -> Shown:
    reading = read(sentence, limit=READ)
    stops = journey(reading.model, reading.ids, LENGTH, float(temperature), int(seed))
    at = min(step, len(stops)) - 1
    stop = stops[at]
    before = [*reading.ids, *(s.chosen for s in stops[:at])]
    names = [piece(i) for i in before]
    p = softmax(stop.logits, float(temperature))
    parts = [
        ("Text", "What is there when this run begins.", "/", words(sentence_so_far(reading, stops, at))),
        token_stage(before, len(stop.read)),
        embedding_stage(stop, names[-1]),
        position_stage(stop),
        heads_stage(stop, block, head),
        attention_stage(stop, names, block, head),
        neurons_stage(stop, block),
        lens_stage(stop, names[-1]),
        logits_stage(stop),
        draw_stage(stop, p, float(temperature)),
        output_stage(reading, stops, at),
        cache_stage(reading, stops, at),
        work_stage(stop, at),
        loss_stage(reading),
    ]
    picture = stack(*(stage(f"{i}. {title}", note, link, part) for i, (title, note, link, part) in enumerate(parts, 1)))
    text = (
        f"{reading.note}Run {at + 1} of {len(stops)}: the model read {many(len(stop.read), 'token')} in "
        f"{1000 * stop.seconds:.0f} ms and scored {len(p):,}. The draw of {stop.draw:.3f} chose "
        f"“{spoken(piece(stop.chosen))}”, which had {percent(p[stop.chosen])}."
        + (f" With it the text ended after {many(len(stops), 'token')}." if stops[-1].chosen in END_IDS else "")
    )
    data = {
        "chosen": np.array([s.chosen for s in stops]),
        "logits": stop.logits,
        "attention": stop.attention[block, head],
        "embedding": stop.embedding,
        "lens": stop.lens_ids,
    }
    formula = (
        rf"{number(stop.low)} \le u = {number(stop.draw)} < {number(stop.high)}"
        rf"\quad\Rightarrow\quad \text{{token }} \tokens{{{stop.chosen}}}"
    )
    return Shown(picture, text, formula, data, {"step": len(stops)})


def percent(share: float) -> str:
    """With one decimal; a small share with two digits, so that what was drawn never had 0.0%."""
    return f"{share:.1%}" if share >= 0.01 else f"{100 * share:.2g}%"


def signed(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


Part = tuple[str, str, str, Any]
"""A stage: its name, a line about it, the way to its chapter, and its picture."""


def sentence_so_far(reading: Reading, stops: tuple[Stop, ...], at: int) -> str:
    return written([*reading.ids, *(s.chosen for s in stops[:at])])


def token_stage(ids: list[int], fresh: int) -> Part:
    old = len(ids) - fresh
    note = (
        (f"{fresh} pieces, each with its number. All are" if fresh > 1 else "A single piece with its number. It is")
        + " read in this run."
        if not old
        else f"{len(ids)} pieces by now. Only the marked one is new; the model reads nothing else in this run."
    )
    chips = [{"text": piece(i), "id": i} for i in ids]
    return "Tokens", note, "/tokenization", tokens(chips, show=["plain"], marked=range(old, len(ids)) if old else ())


def embedding_stage(stop: Stop, name: str) -> Part:
    length = float(np.linalg.norm(stop.embedding))
    note = (
        f"“{spoken(name)}” picks its row of {len(stop.embedding)} learned numbers, a vector of length {length:.2f}. "
        f"The first {NUMBERS}:"
    )
    row = matrix(stop.embedding[None, :NUMBERS], "", "resid", "embed", digits=3)
    return "Embedding", note, "/embeddings", row


def position_stage(stop: Stop) -> Part:
    turns = stop.angles[list(PAIRS)] / (2 * math.pi)
    note = (
        f"It stands at position {stop.position}. By so many steps RoPE has turned each pair of its query and key, in "
        "every block. In turns (the bar is the last one, not yet complete):"
    )
    drawn = bars([f"pair {i}" for i in PAIRS], turns % 1, title="", tensor="q", limit=1.0,
                 texts=[f"{t:.2f}" if t >= 0.01 else f"{t:.5f}" for t in turns])  # fmt: skip
    return "Position", note, "/rope", drawn


def heads_stage(stop: Stop, block: int, head: int) -> Part:
    elsewhere = 1 - stop.attention[:, :, 0].T
    busy = float(np.mean(elsewhere > 0.5))
    note = (
        f"{elsewhere.size} heads, and nothing yet to look back at but this token itself."
        if not stop.position
        else (
            f"{elsewhere.size} heads look back. Dark: those that look at anything but the first token, where the "
            f"others park; {busy:.0%} of all give more than half away. Click one open."
        )
    )
    drawn = heads_map(elsewhere, title="Weight on all but the first token", pick=("head", "block"),
                      picked=(head, block), limit=1.0)  # fmt: skip
    return "Heads", note, "/multi-head", drawn


def attention_stage(stop: Stop, names: list[str], block: int, head: int) -> Part:
    weights = stop.attention[block, head]
    best = int(np.argmax(weights))
    note = (
        f"Block {block}, head {head}: “{spoken(names[-1])}” takes {weights[best]:.0%} of its mix from "
        f"“{spoken(names[best])}”" + (", itself." if best == len(names) - 1 else ".")
    )
    return "Attention", note, "/attention", arcs(names, weights, title="", selected=len(names) - 1)


def neurons_stage(stop: Stop, block: int) -> Part:
    strongest = strongest_neurons(stop, block)
    size = np.abs(stop.hidden[block])
    quiet = float(np.mean(size < 0.1 * size.max()))
    note = (
        f"Block {block}: {len(size):,} gated neurons work on this token alone. {quiet:.0%} of them stay below a "
        "tenth of the strongest. The strongest:"
    )
    drawn = bars([f"neuron {i}" for i, _ in strongest], [value for _, value in strongest], title="", tensor="ffn")
    return "Feed-forward network", note, "/feed-forward", drawn


def lens_stage(stop: Stop, name: str) -> Part:
    depths = lens_depths(CONFIG.layers)
    settled = next(d for i, d in enumerate(depths) if (stop.lens_ids[i:] == stop.lens_ids[-1]).all())
    chips = [
        {"text": piece(int(i)), "note": f"{depth}: {share:.0%}"}
        for depth, i, share in zip(depths, stop.lens_ids, stop.lens_p, strict=True)
    ]
    note = (
        f"What “{spoken(name)}” would lead to after 0, 3, 6 … blocks, had the model stopped there. From "
        f"{settled} on the guess stays."
    )
    return "Blocks, one after the other", note, "/block", tokens(chips, shares=stop.lens_p, show=["no-ids"])


def logits_stage(stop: Stop) -> Part:
    top = most_likely(stop.logits, SHOWN)
    lowest, highest = signed(stop.logits.min()), signed(stop.logits.max())
    note = f"One score for each of {len(stop.logits):,} tokens, from {lowest} to {highest}."
    drawn = bars([bar_label(int(i)) for i in top], stop.logits[top], title="", tensor="logits")
    return "Logits", note, "/sampling", drawn


def draw_stage(stop: Stop, p: np.ndarray, temperature: float) -> Part:
    named = sorted(int(i) for i in {*most_likely(stop.logits, SHOWN).tolist(), stop.chosen})
    gaps, labels, shares, chosen = [0, *(i + 1 for i in named)], [], [], 0
    for start, token in zip(gaps, named, strict=False):
        if start < token:
            labels.append("others")
            shares.append(float(p[start:token].sum()))
        chosen = len(labels) if token == stop.chosen else chosen
        labels.append(bar_label(token))
        shares.append(float(p[token]))
    labels.append("others")
    shares.append(float(p[named[-1] + 1 :].sum()))
    rank = int(np.sum(p > p[stop.chosen])) + 1
    drawn = stack(
        stretches(labels, shares, title="The draw", tensor="logits", draw=stop.draw, chosen=chosen),
        readouts(
            [("random number", f"{stop.draw:.4f}"), ("chosen", f"“{spoken(piece(stop.chosen))}”"),
             ("its share", percent(p[stop.chosen])), ("its rank", f"{rank:,}"),
             ("entropy", f"{float(entropy(p)):.2f} nats")]
        ),
    )  # fmt: skip
    note = (
        "Temperature 0: the largest score takes the whole line."
        if temperature == 0
        else f"At temperature {temperature:g} the scores become shares, laid end to end in the order of the ids."
    )
    return "Draw", f"{note} One random number falls on one of them.", "/sampling", drawn


def output_stage(reading: Reading, stops: tuple[Stop, ...], at: int) -> Part:
    last = at + 1 == len(stops)
    note = "The chosen token is added, and " + ("here this lab stops." if last else "the next run begins with it.")
    now = sentence_so_far(reading, stops, at) + written([stops[at].chosen])
    return "Output", note, "/sampling", words(now, style="output")


def cache_stage(reading: Reading, stops: tuple[Stop, ...], at: int) -> Part:
    done = stops[: at + 1]
    again = sum(len(reading.ids) + i for i in range(at + 1))
    computed = sum(len(s.read) for s in done)
    note = f"Keys and values of {many(stops[at].position + 1, 'position')} are kept. " + (
        f"{computed} were computed so far; without the cache it would be {again}."
        if at
        else "The first run computes them all; every later one adds a single position."
    )
    drawn = bars([f"run {i}" for i in range(1, len(stops) + 1)], [s.cache_bytes / 1e6 for s in stops], title="",
                 tensor="k", pick="step", picked=at, picks=list(range(1, len(stops) + 1)),
                 texts=[f"{s.cache_bytes / 1e6:.3f} MB, {1000 * s.seconds:.0f} ms" for s in stops])  # fmt: skip
    return "Cache", note, "/kv-cache", drawn


def work_stage(stop: Stop, at: int) -> Part:
    work = decode_flops(CONFIG, stop.position + 1) if at else prefill_flops(CONFIG, len(stop.read))
    names = {"projections": "projections", "scores_and_mix": "scores and mix", "feed_forward": "feed-forward",
             "output": "output matrix"}  # fmt: skip
    parts = [float(getattr(work, name)) for name in names]
    note = (
        f"{sum(parts) / 1e9:.2f} billion multiplications and additions, with {total_parameters(CONFIG):,} weights. In "
        "the model's file they take 5 bits each, and 8.5 in the embedding; here they were expanded to 32."
    )
    drawn = bars(list(names.values()), [part / 1e9 for part in parts], title="", tensor="ffn",
                 texts=[f"{part / 1e9:.3g} GFLOP" for part in parts])  # fmt: skip
    return "Work", note, "/quantization", drawn


def loss_stage(reading: Reading) -> Part:
    if len(reading.ids) < 2:
        return "Loss", "One token alone was predicted by nothing.", "/training", words(spoken(reading.pieces[0]))
    losses = reading.model.memo.get(
        ("journey, losses", reading.ids), lambda: surprisal(reading.trace["logits"][:-1], np.array(reading.ids[1:]))
    )
    worst = int(np.argmax(losses))
    note = (
        f"In training your sentence would be the answer key: {float(np.mean(losses)):.2f} nats a token on average. "
        f"“{spoken(reading.pieces[worst + 1])}” came as the greatest surprise, and would move the weights most."
    )
    chips = [
        {"text": name, "note": f"{loss:.1f}"}
        for name, loss in zip(reading.pieces[1:], losses, strict=True)
    ]  # fmt: skip
    return "Loss", note, "/training", tokens(chips, shares=losses / losses.max(), show=["no-ids"])


# --- self-test -------------------------------------------------------------------------------------------------------


@chapter.lab(
    "self-test",
    title="Everything once more, as questions",
    controls=[Slider("paper", "Set of questions", 1, 1, 99)],
    runs=[self_test.drawn, self_test.question],
    snippet="""
        from engine.self_test import drawn

        right = [question.answer for question in drawn({paper})]
        print(right)
    """,
    provenance="Numbers drawn with the set's seed; every answer, right or wrong, computed by the engine",
    presets=[
        Preset("Set 7", {"paper": 7}, "The same for everyone who opens it: a class can compare."),
        Preset("Set 23", {"paper": 23}, "Other numbers, and here and there another question."),
    ],
    height=900,
)
def questions(paper: int) -> tuple[Any, ...]:
    own = self_test.drawn(paper)
    items = [*map(as_item, own), *from_chapters(paper)]
    order = {entry.slug: entry.number for entry in BOOK.entries}
    items.sort(key=lambda item: order[item["slug"]])
    picture = quiz([{k: v for k, v in item.items() if k != "slug"} for item in items], title="", name=str(paper))
    text = (
        f"Set {paper}: {len(items)} questions from {len({item['slug'] for item in items})} chapters. Your first choice "
        "counts; the reply names the chapter."
    )
    formula = rf"{len(own)} \text{{ drawn}} + {len(items) - len(own)} \text{{ from the chapters}} = {len(items)}"
    return picture, text, formula, {
        "questions": [q.ask for q in own], "right": [q.answer for q in own], "chapters": [q.chapter for q in own],
    }  # fmt: skip


def as_item(question: self_test.Question) -> dict[str, Any]:
    return item(
        question.chapter, question.ask, [c.say for c in question.choices], [c.why for c in question.choices],
        question.right,
    )  # fmt: skip


def item(slug: str, ask: str, says: list[str], whys: list[str], right: int) -> dict[str, Any]:
    entry = BOOK.entry(slug)
    return {"slug": slug, "chapter": f"Chapter {entry.number}: {entry.title}", "link": entry.path, "ask": inline(ask),
            "choices": list(map(inline, says)), "replies": list(map(inline, whys)), "right": right}  # fmt: skip


def from_chapters(seed: int) -> list[dict[str, Any]]:
    """One of the chapter's own questions for each chapter that the self-test has none for."""
    found = []
    for slug, other in BOOK.chapters.items():
        if slug in self_test.QUESTIONS or not other.entry.number or slug == chapter.slug:
            continue
        plain = [i for i, question in enumerate(other.questions) if "lab" not in question]
        if plain and (asked := of_chapter(slug, plain[seed % len(plain)])):
            found.append(asked)
    return found


@lru_cache(maxsize=64)
def of_chapter(slug: str, index: int) -> dict[str, Any] | None:
    """A question of a chapter with its computed answer; None where it cannot be computed here."""
    other = BOOK.chapters[slug]
    question = other.questions[index]
    try:
        computed = other.compute_answer(question)
    except (ReaderError, ValueError):
        return None
    choices = question["choice"]
    whys = [choice["why"].replace("{value}", in_words(computed)) for choice in choices]
    return item(slug, question["ask"], [choice["say"] for choice in choices], whys, right_choice(question, computed))


BOOK.before_serving.append(partial(questions, 1))


# --- numbers of the prose --------------------------------------------------------------------------------------------


@chapter.number
def layers() -> int:
    return CONFIG.layers


@chapter.number
def heads() -> int:
    return CONFIG.layers * CONFIG.heads


@chapter.number
def parameters() -> str:
    return f"{total_parameters(CONFIG):,}"


@chapter.number
def times_larger() -> str:
    """How many times as many parameters the largest model of the ledger has."""
    return f"{max(map(total_parameters, CONFIGS.values())) / total_parameters(CONFIG):,.0f}"


@chapter.number
def neurons() -> int:
    return CONFIG.layers * CONFIG.hidden


@chapter.number
def written_tokens() -> int:
    return LENGTH


# --- check yourself --------------------------------------------------------------------------------------------------


@chapter.answer
def positions_in_the_second_run() -> int:
    """How many positions the second run computes for a sentence of 12 tokens, with the cache."""
    return int(plan(12, 2, True).computed[1].sum())


@chapter.answer
def largest_part_of_the_work() -> str:
    """Which part of one decoded token's arithmetic is the largest, after 20 tokens."""
    work = decode_flops(CONFIG, 20)
    names = {"projections": "attention", "scores_and_mix": "scores", "feed_forward": "feed-forward",
             "output": "output"}  # fmt: skip
    return max(names.items(), key=lambda part: getattr(work, part[0]))[1]


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
