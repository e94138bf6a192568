"""Training, last part: what a run costs, and the best size for a budget. The labs on scaling."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from engine import scaling
from engine.ledger import CONFIGS
from pages._training_chapter import chapter
from ui.controls import Choice, Slider
from ui.figures import bars, curve, readouts, stack, table
from ui.lab import Preset
from ui.mathml import number, superscript

# --- scaling ---------------------------------------------------------------------------------------------------------

COUNTED = [name for name in CONFIGS if name not in ("Mixtral 8x7B",)]
H100 = 989e12  # operations a second in 16 bits, by NVIDIA's data sheet
CHINCHILLA = 23.8  # power of ten of the operations that it was trained with, as near as the slider comes
BUSY = 0.4  # of a chip's peak that good training reaches


def big(value: float) -> str:
    """A large number for a reader: 1.4 trillion."""
    for size, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if value >= 0.9995 * size:
            return f"{value / size:,.3g}{word}" if value < 1000 * size else f"{value / size:,.0f}{word}"
    return f"{value:,.0f}"


def plain(value: float) -> str:
    """Three digits, and never a power of ten: 1.86, 93.5, 14,868."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def power(value: float) -> str:
    """A number of operations: 3.15 · 10²³."""
    exponent = math.floor(math.log10(value))
    return f"{value / 10**exponent:.2f} · 10{superscript(exponent)}"


@chapter.lab(
    "cost",
    title="What a training run costs",
    controls=[
        Choice("model", "Model", "SmolLM2-135M", {name: name for name in COUNTED}),
        Slider("billions", "Tokens, power of ten", 12.3, 6, 14, 0.1),
        Slider("context", "Context, power of two", 11, 7, 17),
    ],
    runs=[scaling.training_flops, scaling.counted_cost],
    snippet="""
        from engine.ledger import CONFIGS
        from engine.scaling import counted_cost, training_flops

        config, tokens = CONFIGS[{model!r}], 10.0 ** {billions}
        rule = training_flops(config.parameters, tokens)
        cost = counted_cost(config, tokens, 2 ** {context})
        print(rule, cost.matrices, cost.attention)
    """,
    provenance="Published sizes of the models, counted live",
    presets=[
        Preset("A short context", {"context": 7}, "Almost all of the work is multiplying with weights."),
        Preset("A long one", {"context": 15}, "Scores have no parameters, so 6ND does not see them."),
        Preset(
            "A big model", {"model": "Llama 3.1 70B", "context": 13, "billions": 13.2}, "Where does the rule do well?"
        ),
    ],
    height=330,
)
def cost(model: str, billions: float, context: int) -> tuple[Any, ...]:
    config, tokens, length = CONFIGS[model], 10.0**billions, 2 ** int(context)
    found = scaling.counted_cost(config, tokens, length)
    parts = [found.rule, found.counted, found.matrices, found.attention]
    seconds = found.counted / (H100 * BUSY)
    picture = stack(
        readouts(
            [
                ("parameters", f"{config.parameters:,}"),
                ("tokens", big(tokens)),
                ("6ND, operations", power(found.rule)),
                ("counted", power(found.counted)),
                (f"one H100 at {BUSY:.0%} of its peak", duration(seconds)),
            ]
        ),
        bars(
            ["6ND", "counted", "… weights", "… attention"],
            np.array(parts) / found.counted,
            title="The rule, and what is counted matrix by matrix (counted = 1)",
            tensor="resid",
            texts=[f"{part / found.counted:.2f}" for part in parts],
        ),
    )
    off = found.rule / found.counted - 1
    text = (
        f"{big(config.parameters)} parameters and {big(tokens)} tokens: {{{{rule|{power(found.rule)}}}}} operations by "
        f"the rule, {power(found.counted)} counted, so the rule is "
        + ("right within a hundredth" if abs(off) < 0.01 else f"{abs(off):.0%} too {'high' if off > 0 else 'low'}")
        + f". In windows of {length:,} tokens, {found.attention / found.counted:.1%} of the work is attention's scores "
        "and mixes, which have no parameters."
    )
    formula = (
        rf"6 \, N D = 6 \cdot {number(float(config.parameters), 4)} \cdot {number(tokens, 3)} = {number(found.rule, 4)}"
    )
    return picture, text, formula, {"rule": found.rule, "matrices": found.matrices, "attention": found.attention}


def duration(seconds: float) -> str:
    for size, word in ((365.25 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:,.3g} {word}" if seconds < 1000 * size else f"{seconds / size:,.0f} {word}"
    return f"{seconds:.2g} seconds"


LAWS = {"hoffmann": "Hoffmann et al. 2022", "besiroglu": "Besiroglu et al. 2024"}


@lru_cache(maxsize=256)
def iso_curve(log_compute: float, law: str) -> tuple[np.ndarray, np.ndarray]:
    """Sizes, and the loss of each when all of the compute is spent on it."""
    best = scaling.optimum(10.0**log_compute, scaling.LAWS[law])
    sizes = best.parameters * np.geomspace(1 / 60, 60, 61)
    return sizes, scaling.iso_compute(10.0**log_compute, sizes, scaling.LAWS[law])


@chapter.lab(
    "compute",
    title="The best size for a budget",
    controls=[
        Slider("budget", "Operations, power of ten", CHINCHILLA, 18, 27, 0.1),
        Slider("ratio", "Size, times the best (power of ten)", 0, -1.7, 1.7, 0.1),
        Choice("law", "Constants", "hoffmann", LAWS),
    ],
    runs=[scaling.chinchilla_loss, scaling.optimum, scaling.iso_compute, scaling.numeric_optimum],
    snippet="""
        from engine.scaling import LAWS, chinchilla_loss, numeric_optimum, optimum, tokens_for

        compute, law = 10.0 ** {budget}, LAWS[{law!r}]
        best, searched = optimum(compute, law), numeric_optimum(compute, law)
        size = best.parameters * 10.0 ** {ratio}
        tokens = tokens_for(compute, size)
        loss = chinchilla_loss(size, tokens, law)
        print(best, searched.parameters, loss)
    """,
    provenance="Published constants, computed live; what the formula says, not a run of ours",
    presets=[
        Preset("Chinchilla's budget", {"budget": CHINCHILLA, "ratio": 0}, "Gopher spent it on 280 billion parameters."),
        Preset("Ten times too small", {"ratio": -1}, "Ten times more tokens instead. How much worse?"),
        Preset(
            "Ten times too large",
            {"ratio": 1},
            "Ten times fewer tokens. Is that the worse mistake? Ask the other constants too.",
        ),
        Preset(
            "Other constants", {"law": "besiroglu", "budget": CHINCHILLA, "ratio": 0}, "The same data, fitted again."
        ),
    ],
    height=470,
)
def compute(budget: float, ratio: float, law: str) -> tuple[Any, ...]:
    chosen, total = scaling.LAWS[law], 10.0**budget
    best = scaling.optimum(total, chosen)
    size = best.parameters * 10.0**ratio
    tokens = scaling.tokens_for(total, size)
    loss = float(scaling.chinchilla_loss(size, tokens, chosen))
    around = [budget + step for step in (-2, -1, 0, 1, 2) if 16 <= budget + step <= 29]
    minima = [scaling.optimum(10.0**one, chosen) for one in around]
    picture = stack(
        curve(
            [
                *((f"{power(10.0**one)}", *iso_curve(round(one, 4), law)) for one in around),
                ("lowest of each", [m.parameters for m in minima], [m.loss for m in minima]),
            ],
            title="Loss by the formula, each line one budget",
            x_label="parameters",
            y_label="nats a token",
            tensors=[*("attn" if one == budget else "resid" for one in around), "grad"],
            marker=(size, loss),
            log_x=True,
            dots=[len(around)],
        ),
        readouts(
            [
                ("best: size", big(best.parameters)),
                ("best: tokens", big(best.tokens)),
                ("best: tokens a parameter", plain(best.tokens / best.parameters)),
                ("best: loss", f"{best.loss:.3f}"),
                ("yours: size", big(size)),
                ("yours: tokens", big(tokens)),
                ("yours: loss", f"{loss:.3f}"),
            ]
        ),
    )
    text = (
        f"With {power(total)} operations the formula is lowest at {{{{size|{big(best.parameters)}}}}} parameters and "
        f"{big(best.tokens)} tokens, {plain(best.tokens / best.parameters)} for each. "
        + (
            "That is where the marker is."
            if ratio == 0
            else f"A model {10 ** abs(ratio):,.3g} times {'larger' if ratio > 0 else 'smaller'} loses {loss:.3f}, "
            f"{loss - best.loss:.3f} more."
        )
        + f" Ten times the budget wants {10**chosen.size_exponent:.2f} times the parameters and "
        f"{10 ** (1 - chosen.size_exponent):.2f} times the tokens."
    )
    formula = (
        rf"L = {number(chosen.irreducible)} + \frac{{{number(chosen.a)}}}{{({number(size, 3)})^{{{chosen.alpha}}}}} + "
        rf"\frac{{{number(chosen.b)}}}{{({number(tokens, 3)})^{{{chosen.beta}}}}} = {number(loss)}"
    )
    return picture, text, formula, {"loss": loss, "size": size, "tokens": tokens, "best_size": best.parameters}


@chapter.lab(
    "models",
    title="Where published models stand",
    controls=[
        Choice("model", "Model", "SmolLM2-135M", {name: name for name in scaling.TRAINED}),
        Choice("law", "Constants", "hoffmann", LAWS),
    ],
    runs=[scaling.optimum, scaling.chinchilla_loss],
    snippet="""
        from engine.scaling import LAWS, TRAINED, chinchilla_loss, optimum

        law, model = LAWS[{law!r}], TRAINED[{model!r}]
        best = optimum(model.compute, law)
        loss = chinchilla_loss(model.parameters, model.tokens, law)
        best_loss = best.loss
        print(model.per_parameter, best, loss, best_loss)
    """,
    provenance="Published sizes and token counts; losses by the formula, not measured",
    presets=[
        Preset("Before Chinchilla", {"model": "GPT-3"}, "Too large for its 300 billion tokens."),
        Preset(
            "Chinchilla",
            {"model": "Chinchilla"},
            "20 tokens for each parameter. Which constants agree?",
        ),
        Preset("Today", {"model": "Llama 3.1 8B"}, "Far to the other side, and on purpose."),
    ],
    height=520,
)
def models(model: str, law: str) -> tuple[Any, ...]:
    chosen, one = scaling.LAWS[law], scaling.TRAINED[model]
    best = scaling.optimum(one.compute, chosen)
    loss = float(scaling.chinchilla_loss(one.parameters, one.tokens, chosen))
    budgets = [scaling.optimum(10.0**e, chosen) for e in np.arange(18, 27.1, 0.5)]
    others = [trained for trained in scaling.TRAINED.values() if trained is not one]
    picture = stack(
        curve(
            [
                ("the formula's best", [b.parameters for b in budgets], [b.tokens for b in budgets]),
                ("published models", [m.parameters for m in others], [m.tokens for m in others]),
            ],
            title=f"Parameters and tokens; the marker is {model}",
            x_label="parameters",
            y_label="tokens",
            tensors=["grad", "resid"],
            log_x=True,
            log_y=True,
            dots=[1],
            marker=(one.parameters, one.tokens),
        ),
        table(
            ["model", "parameters", "tokens", "per parameter", "operations", "best size", "loss", "at best size"],
            [
                [m.name, big(m.parameters), big(m.tokens), plain(m.per_parameter), power(m.compute),
                 big(scaling.optimum(m.compute, chosen).parameters),
                 f"{float(scaling.chinchilla_loss(m.parameters, m.tokens, chosen)):.3f}",
                 f"{scaling.optimum(m.compute, chosen).loss:.3f}"]
                for m in scaling.TRAINED.values()
            ],
            title="Losses by the formula",
            marked=[list(scaling.TRAINED).index(model)],
        ),
    )  # fmt: skip
    factor = one.parameters / best.parameters
    text = (
        f"{model} read {big(one.tokens)} tokens, {{{{ratio|{plain(one.per_parameter)}}}}} for each parameter. For the "
        f"same arithmetic the formula's best is a model of {big(best.parameters)} parameters, "
        + (
            "about its own size."
            if 0.8 < factor < 1.25
            else f"{plain(max(factor, 1 / factor))} times {'smaller' if factor > 1 else 'larger'}, and a loss "
            f"{loss - best.loss:.3f} lower."
        )
        + (
            " But whoever uses it pays for every token that it writes, and the larger one would cost "
            f"{plain(1 / factor)} times as much each time."
            if factor < 0.8
            else ""
        )
    )
    formula = (
        rf"\frac{{D}}{{N}} = \frac{{{number(one.tokens, 3)}}}{{{number(one.parameters, 4)}}} = "
        rf"{number(one.per_parameter, 3)}, \qquad 6ND = {number(one.compute, 3)}"
    )
    return picture, text, formula, {"loss": loss, "best_loss": best.loss}
