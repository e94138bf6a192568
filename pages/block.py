"""The transformer block. The labs of the page."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import block as engine
from engine import block_study, residual_study, small_block
from engine.anatomy import Part, block_parts, outside_parts
from engine.ledger import CONFIGS, Config, active_parameters, parameter_ledger, total_parameters
from engine.lens import kept_lens, logit_lens
from engine.model import Model
from pages import _block_drawing as drawn
from pages._block_words import CHAPTER, TITLES, character, exact, formula, roles
from pages._reading import Reading, piece, read, spoken
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Toggle, within
from ui.figures import bars, cells, curve, math, matrix, readouts, row, sign, stack, stacked, stage, table, tokens
from ui.lab import Preset
from ui.mathml import bracketed, mathml, number, signed

chapter = Chapter(__name__, Path(__file__).parent)

MODELS = Choice("model", "Model", "SmolLM2-135M", {name: name for name in CONFIGS})
LAYERS = 30
PARTS = dict(residual_study.PARTS)
BLOCKS = {str(i): f"block {i}" for i in range(LAYERS)}


GROUPS = {
    "embedding": "resid", "attention": "attn", "feed-forward": "ffn", "norm": "v", "output": "logits",
}  # fmt: skip


def _shares(name: str) -> list[float]:
    rows, total = parameter_ledger(CONFIGS[name]), total_parameters(CONFIGS[name])
    return [sum(each.total for each in rows if each.group == group) / total for group in GROUPS]


def _group_share(model: str, group: str) -> str:
    return f"{dict(zip(GROUPS, _shares(model), strict=True))[group]:.1%}"


# --- published models -----------------------------------------------------------------------------------------------


@chapter.lab(
    "anatomy",
    title="Open the block",
    controls=[
        MODELS,
        Slider("length", "Tokens in the text", 16, 1, 1024),
        Pick("part", "Part of the block", drawn.NAMES.index("gate")),
    ],
    runs=[block_parts, outside_parts],
    snippet="""
        from engine.anatomy import block_parts, outside_parts
        from engine.ledger import CONFIGS

        config = CONFIGS[{model!r}]
        parts = [*block_parts(config, {length}), *outside_parts(config, {length})]
        parameters = [part.parameters for part in parts]
        for part in parts:
            print(part.name, part.ins, "->", part.outs, part.parameters)
    """,
    provenance="The published sizes of each model, counted live",
    presets=[
        Preset("GPT-2, 2019", {"model": "GPT-2", "part": 14}, "Learned positions, LayerNorm, biases, no gate."),
        Preset(
            "Eight experts", {"model": "Mixtral 8x7B", "part": 12}, "A router sends each token through two of them."
        ),
        Preset("Four norms", {"model": "Gemma 2 9B", "part": 9}, "Gemma 2 also normalises what a sublayer gives back."),
        Preset("Eight for one", {"model": "Llama 3.1 70B", "part": 4}, "64 query heads share 8 key heads."),
    ],
    height=1143,
)
def anatomy(model: str, length: int, part: int) -> tuple[Any, ...]:
    config = CONFIGS[model]
    inside, outside = block_parts(config, length), outside_parts(config, length)
    parts = {each.name: each for each in (*outside[:-2], *inside, *outside[-2:])}
    wanted = drawn.NAMES[min(max(part, 0), len(drawn.NAMES) - 1)]
    name = wanted if wanted in parts else "up" if wanted in ("gate", "router") else "attention norm"
    chosen, words = parts[name], roles(config)
    block = sum(each.parameters for each in inside)
    total = total_parameters(config)
    copies = config.layers if chosen in inside else 1
    facts = [
        *[(f"in: {label}", drawn.shape(dimensions)) for label, dimensions in chosen.ins],
        *[(f"out: {label}", drawn.shape(dimensions)) for label, dimensions in chosen.outs],
        ("parameters", f"{chosen.parameters:,}"),
        *([("work on one token", f"{chosen.active:,}")] if chosen.active < chosen.parameters else []),
        *([(f"in all {copies} blocks", f"{copies * chosen.parameters:,}")] if copies > 1 and chosen.parameters else []),
    ]
    arrays = [
        [label, drawn.shape(dimensions) + (f", {count} times" if count > 1 else "")]
        for label, dimensions, count in chosen.arrays
    ]
    detail = [stage(TITLES[name], words[name], CHAPTER.get(name, ""), _equation(config, chosen))]
    detail.append(readouts(facts))
    if arrays:
        detail.append(table(["weights", "shape"], arrays, title=""))
    picture = row(
        drawn.drawing(config, parts, words, name, f"One block of {model}: click a part"),
        stack(*detail),
    )
    share = copies * chosen.parameters / total
    sentence = (
        f"{model}: {config.layers} blocks of {{{{block|{block:,}}}}} parameters, {total:,} in all. "
        + (
            f"{TITLES[name]}: {100 * share:.3g}% of the model. "
            if chosen.parameters
            else f"{TITLES[name]}: no parameters. "
        )
        + character(config)
    )
    data = {
        "names": [each.name for each in (*inside, *outside)],
        "parameters": [each.parameters for each in (*inside, *outside)],
    }
    return picture, sentence, "", data


def _equation(config: Config, part: Part) -> Any:
    """A part's equation and, in lines below it, this model's sizes."""
    return math(*(mathml(line, block=True) for line in formula(config, part).split(r", \quad ")))


@chapter.lab(
    "ledger",
    title="Every array, counted",
    controls=[MODELS],
    runs=[parameter_ledger, total_parameters, active_parameters],
    snippet="""
        from engine.ledger import CONFIGS, active_parameters, parameter_ledger

        rows = parameter_ledger(CONFIGS[{model!r}])
        totals = [row.total for row in rows]
        total, active = sum(totals), active_parameters(CONFIGS[{model!r}])
        for row in rows:
            print(row.part, row.shape, row.copies, row.total)
        print(total, active)
    """,
    provenance="The published sizes of each model, counted live",
    presets=[
        Preset(
            "Small model, large vocabulary",
            {"model": "Gemma 2B"},
            f"{_group_share('Gemma 2B', 'embedding')} of it is one table.",
        ),
        Preset(
            "Mostly feed-forward",
            {"model": "Llama 3.1 70B"},
            f"{_group_share('Llama 3.1 70B', 'feed-forward')} of the largest of these.",
        ),
        Preset("Total and active", {"model": "Mixtral 8x7B"}, "Most of it rests while one token passes."),
    ],
    height=640,
)
def ledger(model: str) -> tuple[Any, ...]:
    config = CONFIGS[model]
    rows, total, active = parameter_ledger(config), total_parameters(config), active_parameters(config)
    shares, names = np.array([_shares(name) for name in CONFIGS]).T, [*CONFIGS]
    groups = {group: sum(each.total for each in rows if each.group == group) for group in GROUPS}
    body = [
        [
            each.part,
            drawn.shape(each.shape),
            each.copies,
            f"{each.count:,}",
            f"{each.total:,}",
            f"{each.total / total:.2%}",
        ]
        for each in rows
    ]
    picture = stack(
        stacked(
            names,
            [(group, tensor, share) for (group, tensor), share in zip(GROUPS.items(), shares, strict=True)],
            title="Where the parameters are",
            picked=names.index(model),
        ),
        table(["array", "shape", "copies", "each", "in all", "share"], body, title=f"Every array of {model}"),
        readouts(
            [
                ("sum of all rows", f"{total:,}"),
                ("published", f"{config.parameters:,}"),
                ("difference", f"{total - config.parameters:,}"),
                ("work on one token", f"{active:,}"),
            ]
        ),
    )
    biggest = max(groups, key=lambda group: groups[group])
    sentence = (
        f"{model} has {total:,} parameters. {biggest.capitalize()} holds {groups[biggest] / total:.1%} of them, "
        f"attention {groups['attention'] / total:.1%}, the norms {groups['norm'] / total:.3%}."
    )
    if active < total:
        sentence += f" Only {active:,} of them, {active / total:.1%}, work on any one token; all of them need memory."
    elif config.tied:
        sentence += " The output layer is the embedding table once more and is counted once."
    terms = " + ".join(rf"\{GROUPS[group]}{{{exact(count)}}}" for group, count in groups.items() if count)
    data = {"totals": [each.total for each in rows], "total": total, "active": active}
    return picture, sentence, rf"{terms} = {exact(total)}", data


# --- hand-sized -----------------------------------------------------------------------------------------------------


def _whole(label: str, why: str, **changed: Any) -> Preset:
    """A preset of the hand-sized block: everything on but what is named."""
    switches = {"attention_norm": True, "ffn_norm": True, "attention_residual": True, "ffn_residual": True}
    return Preset(label, {"example": "keys", "scale": 1.0, **switches, "word": -1, **changed}, why)


@chapter.lab(
    "small",
    title="A whole block, number by number",
    controls=[
        Choice("example", "Sentence", "keys", dict(small_block.SENTENCES)),
        Slider("scale", "Size of the stream on its way in", 1.0, 0.25, 8.0, 0.25),
        Toggle("attention_norm", "Norm before attention", True),
        Toggle("ffn_norm", "Norm before feed-forward", True),
        Toggle("attention_residual", "Residual around attention", True),
        Toggle("ffn_residual", "Residual around feed-forward", True),
        Toggle("weights", "Show the weight matrices", False),
        Pick("word", "Word to follow", -1),
    ],
    runs=[small_block.run_small, engine.run_block, engine.attention_sublayer, engine.ffn_sublayer, engine.rms_norm],
    snippet="""
        from engine.small_block import SENTENCES, run_small

        switches = {{
            "attention-norm": {attention_norm}, "ffn-norm": {ffn_norm},
            "attention-residual": {attention_residual}, "ffn-residual": {ffn_residual},
        }}
        run = run_small(SENTENCES[{example!r}], off=[part for part, on in switches.items() if not on], scale={scale})
        y, probabilities = run.y, run.probabilities
        for name, value in run.steps.items():
            print(name, value.round(2))
    """,
    provenance="Hand-set embeddings and weights; everything after them is computed live",
    presets=[
        _whole("The nearest noun is singular", "The verb agrees with “Keys” all the same."),
        _whole("The other way round", "Singular and plural swapped, and the answer turns.", example="key"),
        _whole(
            "No residual around attention",
            "What the word itself was is gone, and the neurons find nothing to work on.",
            attention_residual=False,
        ),
        _whole(
            "A faint stream, no norm",
            "Small numbers make small scores: the head cannot choose any more.",
            scale=0.25,
            attention_norm=False,
            ffn_norm=False,
        ),
        _whole(
            "A loud stream, no norm",
            "What the neurons add grows far faster than the stream itself.",
            scale=8.0,
            attention_norm=False,
            ffn_norm=False,
        ),
    ],
    height=1560,
)
def small(
    example: str,
    scale: float,
    attention_norm: bool,
    ffn_norm: bool,
    attention_residual: bool,
    ffn_residual: bool,
    weights: bool,
    word: int,
) -> tuple[Any, ...]:
    switches = {
        "attention-norm": attention_norm,
        "ffn-norm": ffn_norm,
        "attention-residual": attention_residual,
        "ffn-residual": ffn_residual,
    }
    off = [part for part, on in switches.items() if not on]
    run = small_block.run_small(small_block.SENTENCES[example], off=off, scale=scale)
    at, p = within(word, len(run.words)), run.probabilities
    picture = stack(*_small_rows(run, at, switches, weights))
    best = int(np.argmax(p[at]))
    left = " ".join(run.words[: at + 1])
    sentence = f"After “{left}” the block gives {p[at, best]:.0%} to “{small_block.ANSWERS[best]}”"
    if np.ptp(p[at]) < 0.02:
        sentence = f"After “{left}” the block cannot tell: {p[at, 0]:.0%} for “are”, {p[at, 1]:.0%} for “is”"
    sentence += f". Attention adds {np.linalg.norm(run.steps['attn.out'][at]):.3g} and the neurons "
    sentence += f"{np.linalg.norm(run.steps['ffn.out'][at]):.3g} to a stream of length {np.linalg.norm(run.x[at]):.3g}."
    data = {"x": run.x, "y": run.y, "probabilities": p, **{k.replace(".", "_"): v for k, v in run.steps.items()}}
    return picture, sentence, _row_formula(run.x[at]), data


def _row_formula(x: np.ndarray) -> str:
    """RMSNorm of one row, with its numbers."""
    squares = float(np.sum(x * x))
    size = (squares / len(x) + 1e-5) ** 0.5
    first = next((value for value in x if value), 0.0)
    terms = " + ".join(f"{bracketed(v)}^2" for v in x if v) or "0"
    return (
        rf"\text{{size}} = \sqrt{{\frac{{{terms}}}{{{len(x)}}} + 10^{{-5}}}} = {number(size)}, \qquad "
        rf"\frac{{\resid{{{number(first)}}}}}{{{number(size)}}} = \resid{{{number(first / size)}}}"
    )


def _small_rows(run: small_block.SmallRun, at: int, on: dict[str, bool], weights: bool) -> list[Any]:
    """The pictures from top to bottom, in the order of computation."""
    steps, words, block = run.steps, list(run.words), small_block.BLOCK
    wide: dict[str, Any] = {"columns": small_block.CHANNELS, "rows": words, "digits": 2, "pick": "word", "picked": at}
    narrow: dict[str, Any] = {"rows": words, "digits": 2, "limit": 4}
    size = 2.0

    def stream(name: str, title: str, tensor: str, **more: Any) -> Any:
        return matrix(run.x if name == "x" else steps[name], title, tensor, name, limit=size, **wide, **more)

    def given(name: str, title: str, tensor: str, rows: Any, columns: Any) -> list[Any]:
        if not weights:
            return []
        return [matrix(getattr(block, name), title, tensor, name, rows=rows, columns=columns, digits=1, limit=2)]

    channels, queries, values = small_block.CHANNELS, small_block.QUERY_AXES, small_block.VALUE_AXES
    neurons = small_block.NEURONS
    return [
        stream("x", "The stream before the block: click a word to follow it", "resid"),
        stream(
            "attn.norm", "RMSNorm: each row brought to size 1" if on["attention-norm"] else "No norm: as it is", "resid"
        ),
        row(
            *given("w_q", "W_Q", "q", channels, queries),
            *given("w_k", "W_K", "k", channels, queries),
            *given("w_v", "W_V", "v", channels, values),
        ),
        row(
            matrix(steps["attn.q"][0], "Queries: seeks", "q", columns=queries, product=("attn.norm", "w_q"), **narrow),
            matrix(steps["attn.k"][0], "Keys: offers", "k", columns=queries, product=("attn.norm", "w_k"), **narrow),
            matrix(steps["attn.v"][0], "Values: gives", "v", columns=values, product=("attn.norm", "w_v"), **narrow),
        ),
        row(
            matrix(
                steps["attn.scores"][0], "Scores: q · k / √2", "attn", "scores", rows=words, columns=words, digits=2,
                limit=4, product=("q", "k.T"), divide=2**0.5,
            ),
            sign("→"),
            matrix(
                steps["attn.weights"][0], "Weights, no looking ahead", "attn", "weights", rows=words, columns=words,
                scale="share", digits=2,
            ),
            sign("→"),
            matrix(
                steps["attn.output"], "Found", "attn", "found", columns=values, product=("weights", "v"), **narrow
            ),
        ),
        stack(*given("w_o", "W_O: where the findings are written", "attn", values, channels)),
        stream("attn.out", "What attention adds", "attn", product=("found", "w_o")),
        stream(
            "attn.resid",
            "The stream after attention: before + added" if on["attention-residual"] else "No residual: only the added",
            "resid",
        ),
        stream("ffn.norm", "RMSNorm again" if on["ffn-norm"] else "No norm: as it is", "resid"),
        row(
            *given("w_gate", "W_gate", "ffn", channels, neurons),
            *given("w_up", "W_up", "ffn", channels, neurons),
        ),
        row(
            matrix(steps["ffn.gate"], "Gate", "ffn", "gate", columns=neurons, product=("ffn.norm", "w_gate"), **narrow),
            matrix(steps["ffn.up"], "Up", "ffn", "up", columns=neurons, product=("ffn.norm", "w_up"), **narrow),
            matrix(steps["ffn.hidden"], "SiLU(gate) · up", "ffn", "hidden", columns=neurons, **narrow),
        ),
        stack(*given("w_down", "W_down: what each neuron writes", "ffn", neurons, channels)),
        stream("ffn.out", "What the neurons add", "ffn", product=("hidden", "w_down")),
        stream(
            "resid", "The stream after the block" + ("" if on["ffn-residual"] else ": only what was added"), "resid"
        ),
        bars(
            small_block.ANSWERS, run.probabilities[at], title=f"What comes after “{words[at]}”", tensor="logits",
            share=True, limit=1,
        ),
    ]  # fmt: skip


@chapter.lab(
    "norm",
    title="One row through the norm",
    controls=[
        Choice("kind", "Norm", "rms", {"rms": "RMSNorm (Llama)", "layer": "LayerNorm (GPT-2)"}),
        Slider("a", "First number", 3.0, -20, 20, 0.5),
        Slider("b", "Second number", -1.0, -20, 20, 0.5),
        Slider("c", "Third number", 0.5, -20, 20, 0.5),
        Slider("d", "Fourth number", 2.0, -20, 20, 0.5),
        Slider("times", "All of them times", 1, 1, 100),
    ],
    runs=[engine.rms_norm, engine.layer_norm],
    snippet="""
        import numpy as np
        from engine.block import layer_norm, rms_norm

        x = {times} * np.array([{a}, {b}, {c}, {d}], float)
        ones = np.ones(4)
        normed = rms_norm(x, ones) if {kind!r} == "rms" else layer_norm(x, ones, 0 * ones)
        print(normed)
    """,
    provenance="Computed live; the learned weights are left at 1",
    presets=[
        Preset(
            "A hundred times as long",
            {"kind": "rms", "a": 3, "b": -1, "c": 0.5, "d": 2, "times": 100},
            "The same row comes out.",
        ),
        Preset(
            "One huge number",
            {"kind": "rms", "a": 20, "b": 0.5, "c": -0.5, "d": 0.5, "times": 1},
            "It drowns all the others.",
        ),
        Preset(
            "All alike",
            {"kind": "layer", "a": 5, "b": 5, "c": 5, "d": 5, "times": 1},
            "LayerNorm leaves nothing of such a row; RMSNorm would give ones.",
        ),
    ],
    height=190,
)
def norm(kind: str, a: float, b: float, c: float, d: float, times: float) -> tuple[Any, ...]:
    x, ones = times * np.array([a, b, c, d], float), np.ones(4)
    normed = engine.rms_norm(x, ones) if kind == "rms" else engine.layer_norm(x, ones, 0 * ones)
    names = ["first", "second", "third", "fourth"]
    picture = row(
        bars(names, x, title="Before", tensor="resid"),
        bars(names, normed, title="After", tensor="resid", limit=2.0),
    )
    mean = float(np.mean(x))
    shift = mean if kind == "layer" else 0.0
    size = float(np.sqrt(np.mean((x - shift) ** 2) + 1e-5))
    sentence = f"The row's size was {size:.4g} and is now {float(np.sqrt(np.mean(normed**2))):.3f}. " + (
        "Multiply it by any positive number: what comes out stays the same."
        if kind == "rms"
        else f"LayerNorm first takes away the mean, {_real(mean)}; Llama's RMSNorm leaves it in."
    )
    if size < 0.01:
        sentence = "There is nothing in this row to scale up: what comes out is zero."
    terms = " + ".join(f"{bracketed(v - shift)}^2" for v in x)
    above = rf"{number(x[0])} {signed(-shift)}" if shift else number(x[0])
    text = (
        rf"\frac{{\resid{{{above}}}}}{{\sqrt{{({terms}) / 4 + 10^{{-5}}}}}} = "
        rf"\frac{{{number(x[0] - shift)}}}{{{number(size)}}} = \resid{{{number(float(normed[0]))}}}"
    )
    return picture, sentence, text, {"x": x, "normed": normed}


@chapter.lab(
    "tower",
    title="Break it: thirty blocks without norm, without residual",
    controls=[
        Choice("arrangement", "Where the norm stands", "none", dict(block_study.ARRANGEMENTS)),
        Toggle("residual", "Residuals", True),
        Choice("gain", "Size of the random weights", "1", {"0.5": "half", "1": "usual", "1.5": "one and a half"}),
    ],
    runs=[block_study.random_stack, engine.run_block],
    snippet="""
        from engine.block_study import random_stack

        result = random_stack(30, arrangement={arrangement!r}, residual={residual}, gain={gain})
        lengths, likeness = result.lengths, result.likeness
        print(lengths, likeness)
    """,
    provenance="Random weights, as before training; computed live in float64",
    presets=[
        Preset(
            "As Llama does it",
            {"arrangement": "pre", "residual": True, "gain": "1"},
            "The stream grows slowly, and stays alive.",
        ),
        Preset(
            "No residuals",
            {"arrangement": "pre", "residual": False, "gain": "1"},
            "After a few blocks all tokens are one.",
        ),
        Preset("Neither", {"arrangement": "none", "residual": False, "gain": "1"}, "The signal dies."),
        Preset(
            "As in 2017",
            {"arrangement": "post", "residual": True, "gain": "1"},
            "Norm after each addition: the length is fixed, but the tokens draw together.",
        ),
    ],
    height=360,
)
def tower(arrangement: str, residual: bool, gain: str) -> tuple[Any, ...]:
    now = block_study.random_stack(LAYERS, arrangement=arrangement, residual=residual, gain=float(gain))
    usual = block_study.random_stack(LAYERS, gain=float(gain))
    depth = np.arange(LAYERS + 1)
    chosen = block_study.ARRANGEMENTS[arrangement] + ("" if residual else ", no residual")
    picture = row(
        curve(
            [(chosen, depth, now.lengths), ("norm before each sublayer, with residual", depth, usual.lengths)],
            title="Length of the stream, compared with the input",
            x_label="blocks",
            y_label="times",
            tensors=["grad", "resid"],
            log_y=True,
        ),
        curve(
            [(chosen, depth, now.likeness), ("norm before each sublayer, with residual", depth, usual.likeness)],
            title="How alike the six tokens have become (cosine)",
            x_label="blocks",
            y_label="cosine",
            tensors=["grad", "resid"],
        ),
    )
    lost = int(np.argmax(np.isnan(now.lengths))) if np.isnan(now.lengths).any() else 0
    if lost:
        sentence = f"After {lost - 1} blocks the numbers are beyond all bounds: nothing could be trained here."
    elif now.lengths[-1] < 1e-3:
        sentence = f"After {int(np.argmax(now.lengths < 1e-3))} blocks less than a thousandth of the length is left: "
        sentence += "the signal dies."
    elif now.likeness[-1] > 0.99:
        sentence = (
            f"After {int(np.argmax(now.likeness > 0.99))} blocks any two tokens point the same way (cosine above "
            "0.99): whatever was read, it looks the same."
        )
    else:
        sentence = (
            f"After 30 blocks the stream is {now.lengths[-1]:.3g} times as long as at the start, and the tokens can "
            f"still be told apart (cosine {now.likeness[-1]:.2f})."
        )
    reached = lost - 1 if lost else LAYERS
    text = (
        rf"\frac{{\lVert \resid{{x_{{{reached}}}}} \rVert}}{{\lVert \resid{{x_0}} \rVert}} = "
        rf"{number(float(now.lengths[reached]))}, \quad \text{{usual: }} {number(float(usual.lengths[reached]))}"
    )
    return picture, sentence, text, {"lengths": now.lengths, "likeness": now.likeness}


# --- in the real model ----------------------------------------------------------------------------------------------


def _chips(reading: Reading, at: int, title: str = "Click a token") -> Any:
    pieces = [{"text": name} for name in reading.pieces]
    return tokens(pieces, title=title, pick="token", picked=at, show=["no-ids"])


@chapter.lab(
    "stream",
    title="The stream of your sentence, and who writes into it",
    controls=[Pick("token", "Token", -1)],
    runs=[residual_study.contributions, engine.run_block],
    snippet="""
        from engine.model import load
        from engine.residual_study import contributions
        from engine.tokenization import encode

        found = contributions(load().trace(encode({sentence!r}, "smollm2")[:48]), 30)
        lengths, attention, ffn = found.lengths, found.attention, found.ffn
        print(lengths[:, -1].round(1))
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("The last token", {"token": -1}, "What the next word is guessed from."),
        Preset("The first token", {"token": 0}, "Its stream is another world: look at the scale."),
    ],
    height=(890, 1127),
)
def stream(sentence: str, token: int) -> tuple[Any, ...]:
    reading = read(sentence)
    found = residual_study.contributions(reading.trace, LAYERS)
    at = within(token, len(reading.ids))
    layers, blocks = np.arange(LAYERS + 1), np.arange(LAYERS)
    attention, ffn = found.attention_shares[:, at], found.ffn_shares[:, at]
    name = spoken(reading.pieces[at])
    picture = stack(
        _chips(reading, at),
        row(
            curve(
                [(f"“{name}”", layers, found.lengths[:, at]), ("mean of all after the first",
                 layers, np.mean(found.lengths[:, 1:] if len(reading.ids) > 1 else found.lengths, axis=1))],
                title="Length of the stream after each block",
                x_label="blocks done",
                y_label="length",
                tensors=["resid", "tokens"],
                log_y=True,
            ),
            curve(
                [("attention", blocks, found.attention[:, at]), ("feed-forward", blocks, found.ffn[:, at])],
                title=f"Length of what each block adds to “{name}”",
                x_label="block",
                y_label="length",
                tensors=["attn", "ffn"],
                log_y=True,
            ),
        ),
        curve(
            [("attention", blocks, attention), ("feed-forward", blocks, ffn)],
            title="Share of the final vector that each one wrote (all 60 and the embedding sum to 1)",
            x_label="block",
            y_label="share",
            tensors=["attn", "ffn"],
            points=True,
        ),
        readouts(
            [
                ("embedding", f"{found.embedding_share[at]:.2%}"),
                ("all attention", f"{np.sum(attention):.1%}"),
                ("all feed-forward", f"{np.sum(ffn):.1%}"),
                ("last six blocks", f"{np.sum(attention[-6:]) + np.sum(ffn[-6:]):.1%}"),
            ]
        ),
    )  # fmt: skip
    growth = found.lengths[-1, at] / found.lengths[0, at]
    text = (
        f"{reading.note}The vector of “{name}” grows from length {found.lengths[0, at]:.2f} to "
        f"{found.lengths[-1, at]:.4g}, {growth:,.0f} times. In its final direction feed-forward wrote "
        f"{np.sum(ffn):.0%} and attention {np.sum(attention):.0%}; of the embedding that it started with, "
        f"{found.embedding_share[at]:.2%} is left."
    )
    largest = int(np.argmax(ffn))
    latex = (
        rf"1 = {number(float(found.embedding_share[at]), 3)} "
        rf"{signed(float(np.sum(attention)), 3)}_{{\attn{{\text{{attention}}}}}} "
        rf"{signed(float(np.sum(ffn)), 3)}_{{\ffn{{\text{{feed-forward}}}}}}, \quad \text{{most: block }} {largest}"
    )
    data = {
        "lengths": found.lengths, "attention": found.attention, "ffn": found.ffn,
        "attention_shares": found.attention_shares, "ffn_shares": found.ffn_shares,
    }  # fmt: skip
    return picture, text, latex, data


@chapter.lab(
    "outlier",
    title="One number that drowns all others",
    controls=[Pick("token", "Token", 0)],
    runs=[residual_study.outlier],
    snippet="""
        from engine.model import load
        from engine.residual_study import outlier
        from engine.tokenization import encode

        ids = encode({sentence!r}, "smollm2")[:48]
        found = outlier(load().trace(ids), 30, position={token} if 0 <= {token} < len(ids) else -1)
        values, shares, channel = found.values, found.shares, found.channel
        print(channel, found.written_in, found.erased_in)
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("The first token", {"token": 0}, "Whatever word it is."),
        Preset("The last token", {"token": -1}, "Nothing like it until the last blocks, and then far smaller."),
    ],
    height=(470, 1009),
)
def outlier(sentence: str, token: int) -> tuple[Any, ...]:
    reading = read(sentence)
    at = within(token, len(reading.ids))
    found = residual_study.outlier(reading.trace, LAYERS, at)
    layers, name = np.arange(LAYERS + 1), spoken(reading.pieces[at])
    top = int(np.argmax(np.abs(found.values)))
    picture = stack(
        _chips(reading, at),
        row(
            curve(
                [(f"number {found.channel} of 576", layers, found.values)],
                title=f"The largest number in the stream of “{name}”",
                x_label="blocks done",
                y_label="value",
                tensors=["resid"],
                points=True,
            ),
            curve(
                [("share", layers, found.shares)],
                title="Its share of the stream's squared length",
                x_label="blocks done",
                y_label="share",
                tensors=["resid"],
                points=True,
            ),
        ),
        readouts(
            [
                ("number", f"{found.channel} of 576"),
                ("at its largest", f"{found.values[top]:,.1f}"),
                ("share there", f"{found.shares[top]:.1%}"),
                ("most added by", f"block {found.written_in}, {found.by[0]}"),
                ("most taken by", f"block {found.erased_in}, {found.by[1]}"),
            ]
        ),
    )
    text = (
        f"{reading.note}In the stream of “{name}”, number {found.channel} reaches {found.values[top]:,.0f} and then is "
        f"{found.shares[top]:.1%} of the squared length. Block {found.written_in} adds most to it ({found.by[0]}), "
        f"block {found.erased_in} takes most from it ({found.by[1]}); "
        f"{abs(found.values[-1] / found.values[top]):.0%} is left at the end. "
        + (
            "The norm divides by it, so that the next sublayer sees hardly anything else of this token."
            if found.shares[top] > 0.9
            else "The norm leaves all the other numbers visible."
        )
    )
    squared, share = float(found.values[top] ** 2), float(found.shares[top])
    latex = (
        rf"\frac{{({number(float(found.values[top]))})^2}}{{\lVert \resid{{x}} \rVert^2}} = "
        rf"\frac{{{number(squared)}}}{{{number(squared / share)}}} = {number(share)}"
    )
    return picture, text, latex, {"values": found.values, "shares": found.shares, "channel": found.channel}


LENS_LIMIT = 16


@chapter.lab(
    "lens",
    title="The logit lens: the guess after every block",
    controls=[Pick("layer", "Layer", 28), Pick("token", "Token", -1)],
    runs=[logit_lens, engine.rms_norm],
    snippet="""
        from engine.lens import logit_lens
        from engine.model import load
        from engine.tokenization import encode

        model = load()
        lens = logit_lens(model, model.trace(encode({sentence!r}, "smollm2")[:16]))
        ids, probabilities, final_ranks = lens.ids, lens.probabilities, lens.final_ranks
        print(ids, final_ranks[:, -1])
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("Before the first block", {"layer": 0}, "The table that reads the stream is the one that wrote it."),
        Preset("Half way", {"layer": 15}, "Commas and brackets: the lens is not fitted to this depth."),
        Preset("The answer", {"layer": 30}, "The last row is the model's own prediction."),
    ],
    height=(1130, 1340),
)
def lens(sentence: str, layer: int, token: int) -> tuple[Any, ...]:
    reading = read(sentence, limit=LENS_LIMIT)
    found = kept_lens(reading.model, reading.ids)
    at, depth = within(token, len(reading.ids)), within(layer, LAYERS + 1)
    label = _labels()
    names, ranks = [*reading.pieces], found.final_ranks[:, at]
    final = _quoted(found.ids[-1, at])
    place = "before block 0" if depth == 0 else f"after block {depth - 1}"
    picture = stack(
        cells(
            [[label(i) for i in line] for line in found.ids],
            found.probabilities,
            title="The likeliest next token after each token (across) and each block (down); click a cell",
            rows=["start", *(str(i) for i in range(LAYERS))],
            columns=names,
            pick=["layer", "token"],
            picked=[depth, at],
        ),
        row(
            bars(
                [label(i) for i in found.top_ids[depth, at]],
                found.top_probabilities[depth, at],
                title=f"After “{spoken(names[at])}”, {place}",
                tensor="logits",
                share=True,
                limit=1,
            ),
            curve(
                [("rank", np.arange(LAYERS + 1), ranks)],
                title=f"Place of the final choice, {final} (1 is first)",
                x_label="blocks done",
                y_label="place",
                tensors=["logits"],
                log_y=True,
                points=True,
                marker=(depth, float(ranks[depth])),
            ),
        ),
    )
    settled = _settled(ranks)
    text = (
        f"{reading.note}{place.capitalize()} the model would follow “{spoken(names[at])}” with "
        f"{_quoted(found.ids[depth, at])} ({found.probabilities[depth, at]:.1%}). What it says in the end, "
        f"{final}, is number {ranks[depth]:,} of 49,152 here, and the first choice for good "
        + ("from the start." if settled == 0 else f"after block {settled - 1}.")
    )
    latex = (
        r"\logits{p} = \text{softmax}(\text{norm}(\resid{x}) \cdot W_U), \quad "
        rf"\lVert \resid{{x}} \rVert = {number(float(found.norms[depth, at]))}, \quad "
        rf"\logits{{p_{{\text{{first}}}}}} = {number(float(found.probabilities[depth, at]))}"
    )
    data = {"ids": found.ids, "probabilities": found.probabilities, "final_ranks": found.final_ranks}
    return picture, text, latex, data


def _labels() -> Any:
    """Token ids as labels; each is looked up once."""
    return lru_cache(maxsize=None)(lambda i: _visible(piece(int(i))))


def _visible(text: str) -> str:
    """White space alone as signs that can be seen."""
    return text if text.strip() else text.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")


def _quoted(token: int) -> str:
    """A token inside a sentence."""
    text = piece(int(token))
    return f"“{spoken(text)}”" if text.strip() else spoken(text)


def _settled(ranks: np.ndarray) -> int:
    """The first row from which on the final choice stays in first place."""
    later = np.flatnonzero(ranks > 1)
    return int(later[-1]) + 1 if len(later) else 0


EDIT_LIMIT = 24


@chapter.lab(
    "ablate",
    title="Switch a part off, and let the model go on",
    controls=[
        Choice(
            "part",
            "What is switched off",
            "ffn",
            {name: what.removeprefix("the ").capitalize() for name, what in PARTS.items()},
        ),
        Choice("block", "In which block", "11", BLOCKS),
    ],
    runs=[residual_study.ablate, residual_study.part_off, Model.edited, engine.run_block],
    snippet="""
        from engine.model import load
        from engine.residual_study import ablate
        from engine.tokenization import encode

        found = ablate(load(), encode({sentence!r}, "smollm2")[:24], {part!r}, {block})
        surprisal_before, surprisal_after = found.surprisal_before, found.surprisal_after
        print(surprisal_before.mean(), surprisal_after.mean(), found.divergence)
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset(
            "The block that writes the huge number",
            {"part": "ffn", "block": "11"},
            "One sublayer of sixty, and the model stumbles.",
        ),
        Preset("The very first feed-forward", {"part": "ffn", "block": "0"}, "Nothing later can replace it."),
        Preset("One in the middle", {"part": "ffn", "block": "19"}, "The others hardly notice."),
        Preset(
            "No norm, block 1", {"part": "ffn-norm", "block": "1"}, "The neurons get numbers of a size they never saw."
        ),
        Preset(
            "No residual, block 15", {"part": "ffn-residual", "block": "15"}, "Everything read so far is thrown away."
        ),
        Preset(
            "No residual, block 0",
            {"part": "ffn-residual", "block": "0"},
            "The exception: the bare embedding is not missed.",
        ),
    ],
    height=(1010, 1983),
)
def ablate(sentence: str, part: str, block: str) -> tuple[Any, ...]:
    reading = read(sentence, limit=EDIT_LIMIT, least=2)
    number_of = int(block)
    found = residual_study.ablate(reading.model, reading.ids, part, number_of)
    label, last = _labels(), spoken(reading.pieces[-1])
    before, after = float(np.mean(found.surprisal_before)), float(np.mean(found.surprisal_after))
    shown = list(dict.fromkeys([*found.lens_before.top_ids[-1, 0], *found.lens_after.top_ids[-1, 0]]))
    names = [label(i) for i in shown]
    columns = [found.lens_before, found.lens_after]
    changed = [[i, 1] for i in range(LAYERS + 1) if columns[0].ids[i, 0] != columns[1].ids[i, 0]]
    picture = stack(
        readouts(
            [
                ("loss on your text, before", f"{before:.3f} nats"),
                ("after", f"{after:.3f} nats"),
                ("change", f"{_signed(after - before)} nats"),
                ("divergence of the next token", f"{found.divergence:.3f} nats"),
            ]
        ),
        row(
            *(
                bars(names, np.exp(log_p)[shown], title=title, tensor="logits", share=True, limit=1)
                for title, log_p in (
                    (f"After “{last}”: as it is", found.log_p_before),
                    ("With the part off", found.log_p_after),
                )
            ),
        ),
        row(
            cells(
                [[label(each.ids[i, 0]) for each in columns] for i in range(LAYERS + 1)],
                np.stack([each.probabilities[:, 0] for each in columns], axis=1),
                title=f"The logit lens after “{last}”; outlined where it differs",
                rows=["start", *(str(i) for i in range(LAYERS))],
                columns=["before", "after"],
                marked=changed,
            ),
            bars(
                [*reading.pieces[1:]],
                found.surprisal_after - found.surprisal_before,
                title="How much more each of your tokens surprises the model, in nats",
                tensor="grad",
            ),
        ),
    )  # fmt: skip
    say = [_quoted(each.ids[-1, 0]) for each in columns]
    text = (
        f"{reading.note}Without {PARTS[part]} of block {number_of} the loss on your text goes from {before:.3f} to "
        f"{after:.3f} nats a token, and after “{last}” the model says "
        + (f"{say[1]} instead of {say[0]}." if say[0] != say[1] else f"{say[0]} as before.")
    )
    latex = (
        rf"\text{{loss: }} {number(before)} {signed(after - before)} = {number(after)}, \quad "
        rf"\sum \logits{{p}} \ln \frac{{\logits{{p}}}}{{\logits{{p'}}}} = {number(found.divergence)}"
    )
    data = {
        "surprisal_before": found.surprisal_before, "surprisal_after": found.surprisal_after,
        "lens_before": found.lens_before.ids, "lens_after": found.lens_after.ids, "divergence": found.divergence,
    }  # fmt: skip
    return picture, text, latex, data


def _real(value: float) -> str:
    """A number in a sentence, with a real minus."""
    return f"{value:.4g}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


STEP = 5
RANGES = {
    **{str(i): f"blocks {i} to {i + STEP - 1}" for i in range(0, LAYERS, STEP)},
    "all": "all 30 (takes some seconds)",
}


@chapter.lab(
    "sweep",
    title="Which of the sixty sublayers is missed most?",
    controls=[Choice("blocks", "Blocks to try", "10", RANGES)],
    runs=[residual_study.sublayers_off, engine.ffn_sublayer, engine.run_block],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.residual_study import sublayers_off
        from engine.tokenization import encode

        model, ids = load(), encode({sentence!r}, "smollm2")[:16]
        start, stop = (0, 30) if {blocks!r} == "all" else (int({blocks!r}), int({blocks!r}) + 5)
        surprisal = np.concatenate([sublayers_off(model, ids, i, i + 5) for i in range(start, stop, 5)])
        change = surprisal.mean(-1) - model.surprisal(ids).mean()
        print(change.round(2))
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("The first five", {"blocks": "0"}, "What comes first is missed most."),
        Preset("In the middle", {"blocks": "15"}, "Hardly any of these is missed."),
        Preset("All thirty", {"blocks": "all"}, "Sixty experiments; this takes some seconds the first time."),
    ],
    height=(560, 640),
)
def sweep(sentence: str, blocks: str) -> tuple[Any, ...]:
    reading = read(sentence, limit=LENS_LIMIT, least=2)
    start, stop = (0, LAYERS) if blocks == "all" else (int(blocks), int(blocks) + STEP)
    before, change = residual_study.loss_changes(reading.model, reading.ids, start, stop, STEP)
    at = np.arange(start, stop)
    order = np.argsort(-change, axis=None)[:5]
    named = [f"{start + k // 2} {('attention', 'feed-forward')[k % 2]}" for k in order]
    picture = stack(
        curve(
            [("attention off", at, change[:, 0]), ("feed-forward off", at, change[:, 1])],
            title="Change of the loss on your text when one sublayer is off",
            x_label="block",
            y_label="nats a token",
            tensors=["attn", "ffn"],
            points=True,
        ),
        bars(named, change.reshape(-1)[order], title="Most missed: block and sublayer, in nats", tensor="grad"),
    )
    small_change, better = int(np.sum(np.abs(change) < 0.1)), int(np.sum(change < -0.01))
    top = float(change.reshape(-1)[order[0]])
    text = (
        f"{reading.note}With everything on, your text costs {before:.3f} nats a token. Of the {change.size} sublayers "
        f"tried, {('attention', 'feed-forward')[order[0] % 2]} of block {start + order[0] // 2} is missed most: "
        f"{_signed(top)} nats. {small_change} change the loss by less than 0.1 up or down"
        + (f", and without {better} of them this text gets likelier." if better else ".")
    )
    return picture, text, rf"{number(before)} {signed(top)} = {number(before + top)}", {"change": change}


# --- numbers of the prose -----------------------------------------------------------


@chapter.number
def smollm2_embedding() -> str:
    return _group_share("SmolLM2-135M", "embedding")


@chapter.number
def smollm2_ffn() -> str:
    return _group_share("SmolLM2-135M", "feed-forward")


@chapter.number
def smollm2_attention() -> str:
    return _group_share("SmolLM2-135M", "attention")


@chapter.number
def llama_ffn() -> str:
    return _group_share("Llama 3.1 8B", "feed-forward")


@chapter.number
def totals() -> str:
    """Every model with its total, as a list in the prose."""
    lines = []
    for name, config in CONFIGS.items():
        active = active_parameters(config)
        more = f" ({active:,} active)" if active < config.parameters else ""
        lines.append(f"- {name}: {total_parameters(config):,}{more}")
    return "\n".join(lines)


@chapter.number
def alike_after() -> int:
    """Blocks without residuals until all tokens look the same."""
    return int(np.argmax(block_study.random_stack(LAYERS, residual=False).likeness > 0.99))


@chapter.number
def lost_after() -> int:
    return int(np.argmax(np.isnan(block_study.random_stack(LAYERS, arrangement="none").lengths))) - 1


@chapter.number
def grown() -> float:
    return round(float(block_study.random_stack(LAYERS).lengths[-1]), 1)


# --- check yourself -----------------------------------------------------------


@chapter.answer
def most_parameters() -> str:
    shares = dict(zip(GROUPS, _shares("SmolLM2-135M"), strict=True))
    return max(shares, key=lambda group: shares[group])


@chapter.answer
def without_attention_residual(
    example: str,
    scale: float,
    attention_norm: bool,
    ffn_norm: bool,
    attention_residual: bool,
    ffn_residual: bool,
    weights: bool,
    word: int,
) -> str:
    """For the sentence that the reader has chosen."""
    run = small_block.run_small(small_block.SENTENCES[example], off=["attention-residual"])
    p = run.probabilities[-1]
    return "cannot tell" if abs(p[0] - p[1]) < 0.02 else small_block.ANSWERS[int(np.argmax(p))]


@chapter.answer
def norm_of_ten_times() -> float:
    x = np.array([3.0, -1.0, 0.5, 2.0])
    return round(float(engine.rms_norm(10 * x, np.ones(4))[0] / engine.rms_norm(x, np.ones(4))[0]), 3)


chapter.code["run_block"] = engine.run_block

register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
