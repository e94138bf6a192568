"""Attention: Q, K and V. The labs of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import attention as engine
from engine import attention_study as study
from engine import word_attention as words
from engine.block import prefill_flops
from engine.ledger import CONFIGS
from engine.sampling import entropy, softmax
from pages._reading import read, spoken
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Toggle, within
from ui.figures import arcs, bars, curve, heads_map, matrix, readouts, row, sign, stack
from ui.lab import Preset
from ui.mathml import number, signed

chapter = Chapter(__name__, Path(__file__).parent)

LLAMA = CONFIGS["Llama 3.1 8B"]


# --- hand-sized ----------------------------------------------------------------------------------------------------


@chapter.lab(
    "meeting",
    title="One query meets every key",
    controls=[
        Choice(
            "example",
            "Sentence",
            "tired",
            dict(words.SENTENCES),
        ),
        Slider("sharpness", "Sharpness of the match", 1.0, 0.0, 4.0, 0.1),
        Toggle("causal", "Causal mask", True),
        Toggle("divide", "Divide by √d", True),
        Pick("word", "Word that asks", -1),
    ],
    runs=[words.attend, engine.attention, softmax],
    snippet="""
        from engine.word_attention import SENTENCES, attend

        result = attend(SENTENCES[{example!r}], sharpness={sharpness}, causal={causal}, divide={divide})
        weights, output = result.attention.weights, result.attention.output
        print(weights.round(3))
    """,
    provenance="Hand-set embeddings and projections; everything after them is computed live",
    presets=[
        Preset("“tired” finds the animal", {"example": "tired", "word": -1}, "What is tired must be living."),
        Preset("“wide” finds the street", {"example": "wide", "word": -1}, "One word changed, and the match moves."),
        Preset("“it” cannot know yet", {"example": "tired", "word": 8}, "What decides comes only after it."),
        Preset("The first word", {"example": "tired", "word": 0}, "It can see nothing but itself."),
        Preset(
            "Whose mole?", {"example": "dermatologist", "word": -1}, "The value that is mixed in is skin, not soil."
        ),
    ],
    height=640,
)
def meeting(example: str, sharpness: float, causal: bool, divide: bool, word: int) -> tuple[Any, ...]:
    result = words.attend(words.SENTENCES[example], sharpness=sharpness, causal=causal, divide=divide)
    at = within(word, len(result.words))
    weights, scores = result.attention.weights, result.attention.masked
    asker, names, best = result.words[at], [*result.words], int(np.argmax(weights[at]))
    divisor = (2 if divide else 1) / sharpness if sharpness else 1
    times = "" if sharpness == 1 else f", times {sharpness:g}"
    picture = stack(
        arcs(names, weights[at], title="Click a word: who does it listen to?", selected=at, pick="word"),
        matrix(
            scores[at],
            "Scores: query · key" + (", divided by √4" if divide else "") + times,
            "attn",
            "scores",
            columns=names,
            limit=4,
            product=("q", "k.T"),
            divide=divisor if divisor != 1 else None,
            key_columns="token",
        ),
        matrix(
            weights[at],
            "Weights: softmax of the scores",
            "attn",
            "weights",
            columns=names,
            scale="share",
            digits=3,
            key_columns="token",
        ),
        row(
            stack(
                matrix(
                    result.q[at], f"Query of “{asker}”: what it seeks", "q", columns=words.QUERY_AXES, limit=2, digits=2
                ),
                matrix(
                    result.attention.output[at],
                    f"What “{asker}” takes away",
                    "v",
                    "output",
                    columns=words.VALUE_AXES,
                    limit=1,
                    product=("weights", "v"),
                    digits=2,
                ),
            ),
            matrix(
                result.k,
                "Keys: what each word offers",
                "k",
                rows=names,
                columns=words.QUERY_AXES,
                limit=2,
                key_rows="token",
                digits=2,
            ),
            matrix(
                result.v,
                "Values: what each word passes on",
                "v",
                columns=words.VALUE_AXES,
                limit=1,
                key_rows="token",
                digits=2,
            ),
        ),
    )
    runner = int(np.argsort(-weights[at])[1]) if len(names) > 1 else at
    sentence = (
        f"“{asker}” gives {{{{token:{best}|{weights[at, best]:.1%}}}}} of its attention to “{names[best]}”"
        f" and {{{{token:{runner}|{weights[at, runner]:.1%}}}}} to “{names[runner]}”."
    )
    if causal and at < len(names) - 1:
        sentence += f" The {len(names) - 1 - at} words after it are hidden by the mask."
    formula = _score_formula(result.q[at], result.k[best], sharpness, divide)
    return (
        picture,
        sentence,
        formula,
        {"weights": weights, "scores": result.attention.scores, "output": result.attention.output},
    )


def _score_formula(q: np.ndarray, k: np.ndarray, sharpness: float, divide: bool) -> str:
    """The winning score, its products written out."""
    products = " + ".join(rf"\q{{{number(a)}}} \cdot \k{{{number(b)}}}" for a, b in zip(q, k, strict=True))
    times = "" if sharpness == 1 else rf"{number(sharpness)} \cdot "
    score = sharpness * float(q @ k) / (len(q) ** 0.5 if divide else 1)
    if not divide:
        return rf"\q{{q}} \cdot \k{{k}} = {times}({products}) = \attn{{{number(score)}}}"
    fraction = rf"{times}\frac{{{products}}}{{\sqrt{{{len(q)}}}}}"
    return rf"\frac{{\q{{q}} \cdot \k{{k}}}}{{\sqrt{{d}}}} = {fraction} = \attn{{{number(score)}}}"


@chapter.lab(
    "random",
    title="All of attention, on random numbers",
    controls=[
        Slider("seed", "Seed", 1, 0, 99),
        Toggle("causal", "Causal mask", True),
        Toggle("divide", "Divide by √d", True),
        Toggle("shared", "Q = K = V", False),
    ],
    runs=[engine.attention, engine.causal_mask, softmax],
    snippet="""
        import numpy as np
        from engine.attention import attention

        q, k, v = np.random.default_rng({seed}).normal(size=(3, 4, 8))
        if {shared}:
            k = v = q
        result = attention(q, k, v, causal={causal}, scale=None if {divide} else 1.0)
        weights, output = result.weights, result.output
        print(weights.round(3))
    """,
    provenance="Random numbers, computed live",
    presets=[
        Preset("Q = K = V", {"shared": True}, "Each token then matches itself best."),
        Preset("Look ahead", {"causal": False}, "Without the mask the first row fills up."),
    ],
    height=560,
)
def random(seed: int, causal: bool, divide: bool, shared: bool) -> tuple[Any, ...]:
    q, k, v = np.random.default_rng(seed).normal(size=(3, 4, 8))
    if shared:
        k = v = q
    result = engine.attention(q, k, v, causal=causal, scale=None if divide else 1.0)
    names = [f"token {i + 1}" for i in range(4)]
    picture = stack(
        row(
            matrix(q, "Q (4 × 8)", "q", rows=names, limit=3),
            matrix(k, "K (4 × 8)", "k", rows=names, limit=3),
        ),
        row(
            matrix(
                result.scores,
                "Scores = Q Kᵀ" + (" / √8" if divide else ""),
                "attn",
                "scores",
                rows=names,
                columns=names,
                limit=4,
                product=("q", "k.T"),
                divide=8**0.5 if divide else None,
            ),
            sign("→"),
            matrix(result.masked, "Masked", "attn", "masked", rows=names, columns=names, limit=4),
            sign("→"),
            matrix(
                result.weights,
                "Weights = softmax of each row",
                "attn",
                "weights",
                rows=names,
                columns=names,
                scale="share",
                digits=3,
            ),
        ),
        row(
            matrix(v, "V (4 × 8)", "v", rows=names, limit=3),
            matrix(result.output, "Output = weights · V", "v", "output", rows=names, limit=3, product=("weights", "v")),
        ),
    )
    own = float(np.mean(np.diagonal(result.weights)))
    sentence = f"On average a token gives {own:.1%} of its attention to itself. Every row of weights sums to 1; " + (
        "row 1 has no choice, since the mask leaves it only itself."
        if causal
        else "without the mask, row 1 may look ahead."
    )
    powers = np.exp(result.scores[3])
    formula = (
        r"\attn{w_{4,1}} = \frac{e^{" + number(result.scores[3, 0]) + r"}}{\sum_j e^{s_{4,j}}} = "
        rf"\frac{{{number(powers[0])}}}{{{number(powers.sum())}}} = \attn{{{number(result.weights[3, 0])}}}"
    )
    return picture, sentence, formula, {"q": q, "k": k, "v": v, "weights": result.weights, "output": result.output}


@chapter.lab(
    "break-it",
    title="Break it: no √d, no maximum subtracted",
    controls=[
        Slider("power", "Head width d = 2 to the power", 6, 1, 11),
        Slider("sharpness", "Sharpness", 1.0, 0.1, 8.0, 0.1),
        Toggle("divide", "Divide by √d", True),
        Toggle("subtract_max", "Subtract the maximum", True),
        Slider("seed", "Seed", 0, 0, 99),
    ],
    runs=[study.spread, softmax],
    snippet="""
        from engine.attention_study import spread

        result = spread(2**{power}, sharpness={sharpness}, divide={divide}, subtract_max={subtract_max}, seed={seed})
        scores, weights = result.result.scores, result.result.weights
        print(result.largest, result.entropy)
    """,
    provenance="Random numbers in float32, computed live",
    presets=[
        Preset("A real head, done right", {"power": 6, "divide": True, "subtract_max": True, "sharpness": 1.0}),
        Preset(
            "No √d", {"power": 9, "divide": False, "subtract_max": True, "sharpness": 1.0}, "One key takes everything."
        ),
        Preset(
            "Overflow",
            {"power": 11, "divide": False, "subtract_max": False, "sharpness": 2.0},
            "e to the power 89 does not fit into float32.",
        ),
    ],
    height=420,
)
def break_it(power: int, sharpness: float, divide: bool, subtract_max: bool, seed: int) -> tuple[Any, ...]:
    settings: dict[str, Any] = {"sharpness": sharpness, "divide": divide, "subtract_max": subtract_max, "seed": seed}
    now = study.spread(2**power, **settings)
    widths = [2**p for p in range(1, 12)]
    spreads = [study.spread(width, **settings).entropy for width in widths]
    names = [f"key {i + 1}" for i in range(8)]
    picture = stack(
        readouts(
            [
                ("head width", str(now.width)),
                ("largest score", f"{now.largest:.4g}"),
                ("e to that", _power_of_e(now.largest)),
                ("entropy", f"{now.entropy:.3f} of {np.log(8):.3f} nats"),
            ]
        ),
        row(
            bars(names, now.result.scores[0], title="Scores", tensor="attn"),
            bars(names, now.result.weights[0], title="Weights", tensor="attn", share=True, limit=1),
        ),
        curve(
            [("entropy of the weights, in nats", widths, spreads)],
            title="The same query at every width",
            x_label="head width d",
            y_label="entropy",
            tensors=["attn"],
            log_x=True,
            points=True,
            marker=(now.width, now.entropy if np.isfinite(now.entropy) else 0.0),
        ),
    )
    if not np.isfinite(now.entropy):
        sentence = (
            f"The largest score is {now.largest:.4g}. In float32 nothing above e⁸⁸·⁷ fits, so the softmax divides "
            "infinity by infinity, and the weights are not numbers any more. Subtracting the maximum first would "
            "change nothing else."
        )
    else:
        top = float(np.max(now.result.weights))
        sentence = f"At width {now.width} the largest of eight weights is {top:.1%}. " + (
            "The scores keep their size at any width."
            if divide
            else f"Undivided, scores of random vectors grow like √{now.width} = {now.width**0.5:.3g}."
        )
    formula = rf"\sqrt{{d}} = \sqrt{{{now.width}}} = {number(now.width**0.5)}"
    return (
        picture,
        sentence,
        formula,
        {"scores": now.result.scores, "weights": now.result.weights, "entropies": np.array(spreads)},
    )


def _power_of_e(exponent: float) -> str:
    with np.errstate(over="ignore"):
        value = float(np.exp(np.float32(exponent)))
    return "too large for float32" if np.isinf(value) else f"{value:.4g}"


@chapter.lab(
    "measured",
    title="What it costs, measured now",
    controls=[
        Slider("longest", "Longest text, in tokens", 1024, 256, 3072, 256),
        Slider("run", "Measure again", 1, 1, 20),
    ],
    runs=[study.time_attention, engine.attention],
    snippet="""
        from engine.attention_study import time_attention

        lengths = [{longest} * i // 8 for i in range(1, 9)]
        print(time_attention(lengths).seconds)
    """,
    provenance="Timed live on this server: one head of width 64, one thread",
    cached=False,
    height=460,
)
def measured(longest: int, run: int) -> tuple[Any, ...]:
    lengths = [longest * i // 8 for i in range(1, 9)]
    timing = study.time_attention(lengths)
    n = np.linspace(lengths[0], longest, 60)
    a, b, c = (1000 * part for part in timing.fit)
    picture = stack(
        curve(
            [
                ("measured, milliseconds", lengths, [1000 * s for s in timing.seconds]),
                ("fit", n, 1000 * timing.fitted(n)),
            ],
            title=f"Run {run}: time of one head",
            x_label="tokens n",
            y_label="ms",
            tensors=["attn", "resid"],
            dots=[0],
        ),
        readouts(
            [
                ("time, half the length", f"{1000 * timing.seconds[3]:.3g} ms"),
                ("time, full length", f"{1000 * timing.seconds[-1]:.3g} ms"),
                ("ratio", f"{timing.seconds[-1] / timing.seconds[3]:.2f}"),
                ("score matrix", _bytes(timing.score_bytes[-1])),
            ]
        ),
    )
    sentence = (
        f"Twice the tokens took {timing.seconds[-1] / timing.seconds[3]:.1f} times as long, from {lengths[3]} to "
        f"{longest}. The n × n scores of this one head fill {_bytes(timing.score_bytes[-1])}; twice the tokens need "
        "exactly four times that."
    )
    formula = rf"t(n) \approx {number(c, 3)} \cdot n^2 {signed(b, 3)} \cdot n {signed(a, 3)} \;\text{{ms}}"
    return picture, sentence, formula, {"lengths": np.array(lengths), "seconds": np.array(timing.seconds)}


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return ""


@chapter.lab(
    "whole-model",
    title="The same cost inside a whole model",
    controls=[Slider("thousands", "Prompt length, in thousands of tokens", 8, 1, 128)],
    runs=[prefill_flops, engine.cost],
    snippet="""
        from engine.block import prefill_flops
        from engine.ledger import CONFIGS

        now = prefill_flops(CONFIGS["Llama 3.1 8B"], {thousands} * 1000)
        parts = [now.projections, now.feed_forward, now.scores_and_mix, now.output]
        print([part / now.total for part in parts])
    """,
    provenance="Llama 3.1 8B's published sizes, counted live",
    presets=[
        Preset("2 thousand", {"thousands": 2}, "Attention hardly shows."),
        Preset("Half and half", {"thousands": 53}, "Scores and mix are half of all arithmetic."),
        Preset("128 thousand", {"thousands": 128}, "The longest context that this model was trained for."),
    ],
)
def whole_model(thousands: int) -> tuple[Any, ...]:
    tokens = thousands * 1000
    now, double = prefill_flops(LLAMA, tokens), prefill_flops(LLAMA, 2 * tokens)
    parts = [now.projections, now.feed_forward, now.scores_and_mix, now.output]
    labels = ["projections Q, K, V, O", "feed-forward", "scores and mix", "logits of the last token"]
    notes = [f"{part / 1e12:,.4g} TFLOP" for part in parts]
    picture = bars(
        labels,
        [part / now.total for part in parts],
        title=f"Where the arithmetic goes at {tokens:,} tokens",
        tensor="attn",
        share=True,
        limit=1,
        notes=notes,
        marked=[2],
    )
    sentence = (
        f"Scores and mix are {now.scores_and_mix / now.total:.1%} of the arithmetic of reading {tokens:,} tokens. "
        f"Twice the prompt costs {double.total / now.total:.2f} times as much, not 4 times."
    )
    formula = (
        rf"\frac{{\text{{work}}({2 * tokens})}}{{\text{{work}}({tokens})}} = {number(double.total / now.total, 3)}"
    )
    return picture, sentence, formula, {"parts": np.array(parts, float)}


# --- in the real model -----------------------------------------------------------------------------------------------


@chapter.lab(
    "head",
    title="Any head, on your sentence",
    controls=[
        Slider("layer", "Layer", 13, 0, 29),
        Slider("head", "Head", 8, 0, 8),
        Pick("query", "Token that asks", 8),
        Pick("key", "Token that is asked", 1),
    ],
    runs=[engine.attention, softmax],
    snippet="""
        from engine.model import load
        from engine.tokenization import encode

        trace = load().trace(encode({sentence!r}, "smollm2")[:48])
        weights = trace["blk.{layer}.attn.weights"][{head}]
        scores = trace["blk.{layer}.attn.scores"][{head}]
        print(weights.round(3))
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset(
            "Who is “it”?",
            {"layer": 13, "head": 8, "query": 8},
            "In the sentence that stands there at first, this head links “it” to the animal.",
        ),
        Preset("One step back", {"layer": 16, "head": 0}, "Most tokens look at the one right before them."),
        Preset("Sink", {"layer": 18, "head": 8}, "Nearly everything goes to the first token."),
        Preset("Everywhere", {"layer": 0, "head": 1}, "A head that spreads its attention wide."),
    ],
    height=(760, 1123),
)
def head(sentence: str, layer: int, head: int, query: int, key: int) -> tuple[Any, ...]:
    reading = read(sentence)
    weights = reading.trace[f"blk.{layer}.attn.weights"][head]
    scores = reading.trace[f"blk.{layer}.attn.scores"][head]
    asks = within(query, len(reading.ids))
    asked = min(key if key >= 0 else asks, asks)
    q = reading.trace[f"blk.{layer}.attn.q"][head, asks]
    k = reading.trace[f"blk.{layer}.attn.k"][head // 3, asked]
    products = q * k
    names = [*reading.pieces]
    picture = stack(
        arcs(
            names, weights[asks], title=f"Layer {layer}, head {head}: click a token to ask", selected=asks, pick="query"
        ),
        matrix(
            weights,
            "Attention weights: each row is a token that asks; click a cell to open it",
            "attn",
            "weights",
            rows=names,
            columns=names,
            scale="share",
            pick=["query", "key"],
            picked=[asks, asked] if len(names) > 16 else asks,
            digits=2,
        ),
        matrix(
            products.reshape(8, 8),
            f"The 64 products of “{spoken(names[asks])}” asking “{spoken(names[asked])}”: q × k, number by number",
            "attn",
            "products",
            digits=2,
        ),
        readouts(
            [
                ("sum of the 64", f"{products.sum():.4f}"),
                ("divided by √64", f"{products.sum() / 8:.4f}"),
                ("score in the model", f"{scores[asks, asked]:.4f}"),
                ("weight", f"{weights[asks, asked]:.2%}"),
                ("entropy of the row", f"{float(entropy(weights[asks])):.3f} nats"),
            ]
        ),
    )
    text = (
        f"{reading.note}In layer {layer}, head {head}, “{spoken(names[asks])}” gives {weights[asks, asked]:.1%} of its "
        "attention to "
        f"“{spoken(names[asked])}” and {weights[asks, 0]:.1%} to the first token."
    )
    total = float(products.sum())
    formula = (
        rf"\frac{{\q{{q}} \cdot \k{{k}}}}{{\sqrt{{64}}}} = \frac{{{number(total)}}}{{8}} = \attn{{{number(total / 8)}}}"
    )
    return picture, text, formula, {"weights": weights, "scores": scores, "products": products}


MEASURES = {
    "first": ("Weight on the first token", study.first_token_share, 1.0),
    "previous": ("Weight on the token before", study.previous_token_share, 1.0),
    "entropy": ("Entropy of the weights, in nats", study.mean_entropy, None),
}


@chapter.lab(
    "all-heads",
    title="All 270 heads at once, and why the first token soaks up attention",
    controls=[
        Choice("measure", "What to show", "first", {name: label for name, (label, _, _) in MEASURES.items()}),
        Pick("layer", "Layer", 12),
        Pick("head", "Head", 0),
    ],
    runs=[study.first_token_share, study.previous_token_share, study.mean_entropy, entropy],
    snippet="""
        import numpy as np
        from engine import attention_study
        from engine.model import load
        from engine.tokenization import encode

        trace = load().trace(encode({sentence!r}, "smollm2")[:48])
        measure = dict(first="first_token_share", previous="previous_token_share", entropy="mean_entropy")[{measure!r}]
        study = getattr(attention_study, measure)
        measured = np.array([study(trace[f"blk.{{layer}}.attn.weights"]) for layer in range(30)])
        print(measured.round(2))
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    height=(720, 1119),
)
def all_heads(sentence: str, measure: str, layer: int, head: int) -> tuple[Any, ...]:
    reading = read(sentence, least=3)
    label, function, limit = MEASURES[measure]
    layer, head = within(layer, 30), within(head, 9)
    measured = np.array([function(reading.trace[f"blk.{i}.attn.weights"]) for i in range(30)])
    values = reading.trace[f"blk.{layer}.attn.v"][head // 3]
    lengths = np.linalg.norm(values, axis=-1)
    weights = reading.trace[f"blk.{layer}.attn.weights"][head]
    received = weights[1:].mean(axis=0)
    names = [*reading.pieces]
    picture = stack(
        heads_map(
            measured.T,
            title=f"{label}: 30 layers across, 9 heads down; click one",
            limit=limit,
            picked=[head, layer],
            pick=["head", "layer"],
        ),
        row(
            bars(
                names,
                received,
                title=f"Layer {layer}, head {head}: mean weight that each token receives",
                tensor="attn",
                share=True,
                limit=1,
            ),
            bars(names, lengths, title="Length of the value it would pass on", tensor="v"),
        ),
    )
    mean = float(np.mean(measured))
    others = float(np.mean(lengths[1:]))
    text = (
        f"{reading.note}Over all 270 heads the mean is {mean:.2f}. In layer {layer}, head {head}, the first token "
        f"receives {received[0]:.1%} of the attention, and its value has length {lengths[0]:.2f}, against {others:.2f} "
        "for the others: "
        + (
            "to attend to it is a way to add almost nothing."
            if lengths[0] < 0.6 * others
            else "here it does pass something on."
        )
    )
    formula = rf"\v{{\lVert v_1 \rVert}} = {number(lengths[0])}, \quad \text{{others: }} {number(others)}"
    return picture, text, formula, {"measured": measured, "value_lengths": lengths}


# --- numbers of the prose ------------------------------------------------------------


@chapter.number
def half_attention() -> int:
    """The prompt length at which scores and mix are half of Llama 3.1 8B's arithmetic, in thousands of tokens."""
    return next(
        t for t in range(1000, 128000, 8) if 2 * prefill_flops(LLAMA, t).scores_and_mix >= prefill_flops(LLAMA, t).total
    )


@chapter.number
def doubling_2k() -> float:
    return round(prefill_flops(LLAMA, 4096).total / prefill_flops(LLAMA, 2048).total, 2)


@chapter.number
def doubling_32k() -> float:
    return round(prefill_flops(LLAMA, 65536).total / prefill_flops(LLAMA, 32768).total, 2)


@chapter.number
def tired_share() -> str:
    result = words.attend(words.SENTENCES["tired"])
    return f"{result.attention.weights[-1, result.words.index('animal')]:.0%}"


# --- check yourself ------------------------------------------------------------


@chapter.answer
def first_token_weight() -> float:
    return float(words.attend(words.SENTENCES["tired"]).attention.weights[0, 0])


@chapter.answer
def it_prefers() -> str:
    result = words.attend(words.SENTENCES["wide"])
    at = result.words.index("it")
    animal, street = (float(result.attention.weights[at, result.words.index(w)]) for w in ("animal", "street"))
    return "neither" if abs(animal - street) < 0.02 else "animal" if animal > street else "street"


@chapter.answer
def doubling(thousands: int) -> float:
    """How much more a doubled prompt costs, at the length that the reader has set in the lab."""
    return prefill_flops(LLAMA, 2000 * thousands).total / prefill_flops(LLAMA, 1000 * thousands).total


chapter.code["attention"] = engine.attention

register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
