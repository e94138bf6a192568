"""Neuron and activation. The labs of the page."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import curve_fit as fits
from engine import curve_training as learning
from engine import gates as engine_gates
from engine import linear_layers as linear
from engine import neuron as engine
from engine.activation import derivative, gelu, silu
from engine.backpropagation import value_and_grad
from engine.feed_forward import mlp, swiglu_steps
from engine.model import Model
from pages import _gates as real
from pages import _neurons as pictures
from pages._neurons import FORMS, short
from pages._reading import Reading, piece, read, spoken
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Text
from ui.figures import bars, curve, matrix, readouts, row, stack
from ui.lab import Preset
from ui.mathml import number

chapter = Chapter(__name__, Path(__file__).parent)
chapter.code["gelu"] = gelu
chapter.code["fit"] = fits.fit
chapter.code["swiglu"] = swiglu_steps

# --- one neuron ------------------------------------------------------------------------------------------------------

X, W = (0.7, -0.25, 0.45), (1.1, -0.85, 0.55)


@chapter.lab(
    "neuron",
    title="One neuron",
    controls=[
        *(Slider(f"x{i + 1}", f"Input x{'₁₂₃'[i]}", X[i], -2.0, 2.0, 0.05) for i in range(3)),
        *(Slider(f"w{i + 1}", f"Weight w{'₁₂₃'[i]}", W[i], -2.0, 2.0, 0.05) for i in range(3)),
        Slider("bias", "Bias b", 0.0, -4.0, 4.0, 0.01),
        Choice("form", "Activation", "gelu", FORMS),
    ],
    runs=[engine.neuron, engine.bend, gelu, derivative],
    snippet="""
        import numpy as np
        from engine.neuron import neuron

        found = neuron(np.array([{x1}, {x2}, {x3}]), np.array([{w1}, {w2}, {w3}]), {bias}, {form!r})
        total, output, slope, by_weight = found.total, found.output, found.slope, found.by_weight
        print(total, output, slope)
    """,
    provenance="Inputs and weights set by you; computed live",
    presets=[
        Preset(
            "A dead ReLU", {"form": "relu", "bias": -3.0}, "Sum below zero: output 0, slope 0, nothing to learn by."
        ),
        Preset(
            "A little leak",
            {"form": "leaky_relu", "bias": -3.0},
            "The same sum. One hundredth of the slope is left, and with it a way back.",
        ),
        Preset(
            "Saturated",
            {"form": "sigmoid", "bias": 4.0},
            "Far out on a sigmoid the output hardly moves, whatever the weights do.",
        ),
        Preset(
            "The dip",
            {"form": "gelu", "bias": -1.98},
            "GELU and SiLU go below zero and come back: at the bottom of the dip the slope is zero.",
        ),
        Preset(
            "Two GELUs, furthest apart",
            {"form": "gelu_tanh", "bias": -3.93},
            "Nowhere do the exact and the tanh form differ by more than here: in the fourth decimal.",
        ),
        Preset("No bend at all", {"form": "linear", "bias": 0.0}, "A weighted sum, and nothing more."),
    ],
    height=930,
)
def neuron(x1: float, x2: float, x3: float, w1: float, w2: float, w3: float, bias: float, form: str) -> tuple[Any, ...]:
    x, w = np.array([x1, x2, x3]), np.array([w1, w2, w3])
    found = engine.neuron(x, w, bias, form)
    z, out, steep = float(found.total), float(found.output), float(found.slope)
    every = {name: float(engine.bend(name, found.total)) for name in FORMS}
    picture = stack(
        row(pictures.drawn(found, x, w, bias, form), pictures.weights(found, x, w)),
        pictures.both_curves(form, z, out, steep),
        bars(
            list(FORMS.values()),
            list(every.values()),
            title=f"The same sum, {short(z)}, through each of them",
            tensor="ffn",
            notes=[short(value, 5) if name.startswith("gelu") else "" for name, value in every.items()],
            marked=[list(FORMS).index(form)],
        ),
    )
    data = {"total": z, "output": out, "slope": steep, "by_weight": found.by_weight, "products": found.products}
    sentence = pictures.neuron_sentence(found, form, every)
    return picture, sentence, pictures.neuron_formula(x, w, bias, form, z, out), data


# --- why a bend ----------------------------------------------------------------------------------------------------

STEPS = np.arange(-12, 13) / 4
ALL_INPUTS = np.stack(np.meshgrid(STEPS, STEPS), axis=-1).reshape(-1, 2).astype(np.float32)
"""Every position of the two sliders."""


@chapter.lab(
    "collapse",
    title="Two layers, or one?",
    controls=[
        Choice("form", "Activation between the layers", "linear", FORMS),
        Choice("numbers", "Weights", "quarters", {"quarters": "multiples of ¼", "any": "any numbers"}),
        Slider("seed", "Seed of the weights", 4, 0, 99),
        Slider("x1", "Input x₁", 1.0, -3.0, 3.0, 0.25),
        Slider("x2", "Input x₂", -0.5, -3.0, 3.0, 0.25),
    ],
    runs=[linear.compare, linear.collapse, linear.drawn_layers],
    snippet="""
        import numpy as np
        from engine.linear_layers import compare, drawn_layers

        layers = drawn_layers({seed}, quarters={numbers!r} == "quarters")
        found = compare(np.array([[{x1}, {x2}]], np.float32), layers, {form!r})
        output, collapsed, matrix = found.output, found.collapsed, found.matrix
        print(output, collapsed, found.difference)
    """,
    provenance="Random weights in float32, the format of the real model; computed live",
    presets=[
        Preset("Two layers, no bend", {"form": "linear", "numbers": "quarters"}, "One matrix does the work of two."),
        Preset("Switch ReLU on", {"form": "relu", "numbers": "quarters"}, "Bent, the two layers leave the line."),
        Preset("Switch SiLU on", {"form": "silu", "numbers": "quarters"}, "The same without corners."),
        Preset(
            "Lucky inputs",
            {"form": "relu", "numbers": "quarters", "seed": 9, "x1": 1.0, "x2": -0.5},
            "All three sums are positive here, so ReLU changes nothing; a little further it does.",
        ),
        Preset(
            "Any numbers",
            {"form": "linear", "numbers": "any"},
            "On paper still equal. The computer rounds in different places, and the last digits part.",
        ),
    ],
    height=870,
)
def collapse(form: str, numbers: str, seed: int, x1: float, x2: float) -> tuple[Any, ...]:
    layers = linear.drawn_layers(seed, numbers == "quarters")
    x = np.array([[x1, x2]], np.float32)
    found = linear.compare(x, layers, form)
    everywhere = linear.compare(ALL_INPUTS, layers, form).difference
    along = np.stack([np.arange(-48, 49) / 16, np.full(97, x2)], axis=-1).astype(np.float32)
    swept = linear.compare(along, layers, form)
    picture = stack(
        *pictures.as_matrices(x, layers, found, form, 2 if numbers == "quarters" else 3),
        curve(
            [("two layers", along[:, 0], swept.output[:, 0]), ("one matrix", along[:, 0], swept.collapsed[:, 0])],
            title=f"Output y₁ while x₁ moves (x₂ = {short(x2)})",
            x_label="x₁",
            y_label="y₁",
            tensors=["ffn", "attn"],
            marker=(x1, float(found.output[0, 0])),
        ),
    )
    data = {"output": found.output, "collapsed": found.collapsed, "matrix": found.matrix, "bias": found.bias,
            "hidden": found.hidden, "largest_difference": everywhere}  # fmt: skip
    sentence = pictures.collapse_sentence(form, found, everywhere, len(ALL_INPUTS))
    return picture, sentence, pictures.collapse_formula(layers, found), data


# --- a function built from neurons ---------------------------------------------------------------------------------

TARGETS = {"sine": "a sine", "bump": "a bump", "step": "a step", "zigzag": "a zigzag", "chirp": "ever faster waves"}
PLACEMENTS = {
    "even": "spread evenly",
    "chosen": "one at a time, where it helps most",
    "random": "at random",
}
OWN = "(-3, 0) (-1.6, 2) (0.4, -1) (1.5, 1) (3, 0.5)"


@lru_cache(maxsize=64)
def target_curve(target: str, own: str) -> np.ndarray:
    return fits.own_curve(own) if target == "own" else fits.TARGETS[target](fits.grid())


@lru_cache(maxsize=64)
def chosen_kinks(target: str, own: str) -> fits.Kinks:
    return fits.chosen(target_curve(target, own))


@lru_cache(maxsize=64)
def planned_errors(target: str, own: str) -> dict[str, tuple[Any, Any]]:
    """The numbers of neurons and their errors, for the kinks that need no seed; kept, so that sliders look them up."""
    y = target_curve(target, own)
    one_by_one = fits.errors(y, chosen_kinks(target, own))
    return {
        "even": (np.array(fits.COUNTS), np.array([fits.fit(y, fits.even(n)).error for n in fits.COUNTS])),
        "chosen": (np.arange(1, len(one_by_one) + 1), one_by_one),
    }


@lru_cache(maxsize=256)
def random_errors(target: str, own: str, seed: int) -> tuple[Any, Any]:
    """The same for random kinks."""
    return np.arange(1, fits.MOST + 1), fits.errors(target_curve(target, own), fits.random(fits.MOST, seed))


def kinks_for(target: str, own: str, placement: str, n: int, seed: int) -> fits.Kinks:
    if placement == "even":
        return fits.even(n)
    return chosen_kinks(target, own).first(n) if placement == "chosen" else fits.random(fits.MOST, seed).first(n)


@chapter.lab(
    "build",
    title="A curve built from neurons",
    controls=[
        Slider("neurons", "ReLU neurons", 6, 1, 64),
        Slider("shown", "Add up only the first", 64, 1, 64),
        Choice("target", "Curve to build", "sine", {**TARGETS, "own": "my own, below"}),
        Choice("placement", "Kinks", "even", PLACEMENTS),
        Slider("seed", "Seed of the random kinks", 0, 0, 20),
        Text("own", "My own curve: points such as (−2, 1) (0, 3), or an expression of x", OWN, limit=200, rows=1),
    ],
    runs=[fits.fit, fits.even, fits.random, fits.chosen, fits.own_curve, mlp],
    snippet="""
        from engine import curve_fit
        from engine.curve_fit import chosen, even, fit, grid, own_curve, random

        y = own_curve({own!r}) if {target!r} == "own" else curve_fit.TARGETS[{target!r}](grid())
        placed = dict(even=lambda: even({neurons}), chosen=lambda: chosen(y).first({neurons}),
                      random=lambda: random(64, {seed}).first({neurons}))[{placement!r}]()
        found = fit(y, placed)
        fitted, error = found.fitted, found.error
        print(found.kinks.at, found.weights, error)
    """,
    provenance="Kinks placed by the rule you choose, output weights by least squares, computed live at 241 places",
    presets=[
        Preset("One neuron", {"neurons": 1, "target": "sine", "placement": "even", "shown": 64}, "A straight line."),
        Preset(
            "Add them up",
            {"neurons": 8, "target": "sine", "placement": "even", "shown": 3},
            "Drag “Add up only the first” to the right: each neuron bends the line from its kink on.",
        ),
        Preset(
            "A step",
            {"neurons": 16, "target": "step", "placement": "even", "shown": 64},
            "No straight pieces make a jump. Evenly spread neurons ring around it, and more of them help little.",
        ),
        Preset(
            "A step, well placed",
            {"neurons": 11, "target": "step", "placement": "chosen", "shown": 64},
            "Where the kinks are matters more than how many. Of these eleven, only the two at the step carry weight.",
        ),
        Preset(
            "Greed is not best",
            {"neurons": 3, "target": "zigzag", "placement": "chosen", "shown": 64},
            "Three evenly spread neurons meet this zigzag exactly. Choosing one at a time takes more.",
        ),
        Preset(
            "At random",
            {"neurons": 24, "target": "chirp", "placement": "random", "shown": 64},
            "Untrained kinks: many stand where nothing happens, few where they are needed.",
        ),
        Preset(
            "An expression",
            {"neurons": 20, "target": "own", "own": "x*sin(3*x)/2", "placement": "even", "shown": 64},
            "Anything you can write with x.",
        ),
    ],
    height=880,
)
def build(neurons: int, shown: int, target: str, placement: str, seed: int, own: str) -> tuple[Any, ...]:
    own = own if target == "own" else ""
    y, x = target_curve(target, own), fits.grid()
    found = fits.fit(y, kinks_for(target, own, placement, neurons, seed))
    used = len(found.weights)
    first = min(shown, used)
    part = fits.as_network(x, found.kinks.first(first), found.weights[:first], found.constant)
    at = np.clip(found.kinks.at[:first], fits.LOW, fits.HIGH)
    every = {**planned_errors(target, own), "random": random_errors(target, own, seed)}
    whole = "their sum" if first == used else f"the first {first} of {used}"
    picture = stack(
        curve(
            [(whole, x, part), ("the curve", x, y), ("kinks", at, np.interp(at, x, part))],
            title=f"{used} neuron{'s' if used != 1 else ''}, {PLACEMENTS[placement]}",
            x_label="x",
            y_label="y",
            tensors=["ffn", "resid", "ffn"],
            dots=[2],
        ),
        row(
            pictures.contributions(found, first),
            pictures.error_curves({PLACEMENTS[name]: every[name] for name in PLACEMENTS}, used, found.error),
        ),
        readouts(
            [
                ("error (root mean square)", short(found.error)),
                ("straight pieces", str(1 + int(np.sum((found.kinks.at > fits.LOW) & (found.kinks.at < fits.HIGH))))),
                ("fitted numbers", f"{used} weights and a constant"),
                ("largest single contribution", short(np.max(np.abs(found.parts), initial=0.0))),
                ("largest value of the curve", short(np.max(np.abs(y)))),
            ]
        ),
    )
    data = {"fitted": found.fitted, "error": found.error, "kinks": found.kinks.at, "sides": found.kinks.side,
            "weights": found.weights, "constant": found.constant, "curve": y}  # fmt: skip
    return (
        picture,
        pictures.build_sentence(found, neurons, used, first, target, placement),
        pictures.sum_formula(found),
        data,
    )


# --- kinks that learn ----------------------------------------------------------------------------------------------

BENDS = {name: FORMS[name] for name in ("relu", "leaky_relu", "tanh", "gelu")}


@lru_cache(maxsize=256)
def training_run(target: str, neurons: int, form: str, rate: float, seed: int) -> learning.Run:
    """All 300 steps, kept, so that the slider for the steps only looks at them."""
    x = np.linspace(fits.LOW, fits.HIGH, learning.PLACES)
    return learning.train(fits.TARGETS[target](x), neurons, activation=form, rate=rate, steps=learning.STEPS, seed=seed)


@chapter.lab(
    "learn",
    title="Kinks that move: the same neurons, trained",
    controls=[
        Slider("step", "Training steps", 300, 0, learning.STEPS),
        Choice("target", "Curve to learn", "bump", TARGETS),
        Choice("neurons", "Neurons", "8", {n: n for n in ("2", "4", "8", "16", "32")}),
        Choice("form", "Activation", "relu", BENDS),
        Choice("rate", "Learning rate", "0.03", {r: r for r in ("0.003", "0.01", "0.03", "0.1", "0.3")}),
        Choice("seed", "Random start", "0", {str(i): f"number {i}" for i in range(8)}),
    ],
    runs=[learning.train, learning.loss, learning.start, value_and_grad, mlp],
    snippet="""
        import numpy as np
        from engine.curve_fit import TARGETS
        from engine.curve_training import train

        y = TARGETS[{target!r}](np.linspace(-3, 3, 61))
        run = train(y, {neurons}, activation={form!r}, rate={rate}, steps=300, seed={seed})
        losses, deaths = run.losses, run.deaths
        print(losses[-1], deaths[-1])
    """,
    provenance="Random weights, trained live by gradient descent with momentum 0.9 on 61 places",
    presets=[
        Preset(
            "It works",
            {"target": "bump", "neurons": "8", "form": "relu", "rate": "0.03", "seed": "0", "step": 300},
            "Kinks wander to where the curve bends.",
        ),
        Preset(
            "All dead",
            {"target": "bump", "neurons": "8", "form": "relu", "rate": "0.1", "seed": "0", "step": 300},
            "A few steps too large push every neuron below zero everywhere. No slope, no gradient, no way back.",
        ),
        Preset(
            "Would a leak help?",
            {"target": "bump", "neurons": "8", "form": "leaky_relu", "rate": "0.1", "seed": "0", "step": 300},
            "None is dead: one hundredth of a slope is left. In 300 steps that is not enough to come back.",
        ),
        Preset(
            "No corner to fall off",
            {"target": "bump", "neurons": "8", "form": "tanh", "rate": "0.1", "seed": "0", "step": 300},
            "The same rate, which killed every ReLU, suits tanh.",
        ),
        Preset(
            "Out of hand",
            {"target": "sine", "neurons": "16", "form": "relu", "rate": "0.1", "seed": "0", "step": 6},
            "The loss grows at every step; the run was stopped.",
        ),
        Preset(
            "A zigzag, learned",
            {"target": "zigzag", "neurons": "8", "form": "relu", "rate": "0.03", "seed": "0", "step": 300},
            "Straight pieces are what ReLUs are made for: two kinks land on the two corners.",
        ),
    ],
    height=800,
)
def learn(step: int, target: str, neurons: str, form: str, rate: str, seed: str) -> tuple[Any, ...]:
    run = training_run(target, int(neurons), form, float(rate), int(seed))
    last = len(run.losses) - 1
    now = min(step, last)
    deaths = int(run.deaths[now])
    picture = pictures.learned(run, now, last)
    data = {"losses": run.losses, "deaths": run.deaths, "output": run.output(now), "kinks": run.kinks(now)}
    most = {"step": max(last, 1)}
    return (
        picture,
        pictures.learn_sentence(run, now, last, deaths, int(neurons)),
        pictures.loss_formula(run, now),
        data,
        most,
    )


# --- slopes through depth ------------------------------------------------------------------------------------------

COMPARED = ("relu", "sigmoid", "tanh", "gelu", "silu")


def reaching(found: engine.Chain, whole: bool) -> np.ndarray:
    """What arrives, without sign; of activations shown for comparison only what is above 1e-12, to keep the scale."""
    sizes = np.abs(found.reach)
    return sizes if whole else np.where(sizes < 1e-12, np.nan, sizes)


@chapter.lab(
    "chain",
    title="What is left of a slope",
    controls=[
        Slider("layers", "Neurons in a row", 10, 1, 30),
        Choice("form", "Activation", "sigmoid", FORMS),
        Slider("weight", "Weight of each", 1.0, 0.1, 6.0, 0.1),
        Slider("bias", "Bias of each", 0.0, -3.0, 3.0, 0.1),
        Slider("x", "Input", 0.5, -3.0, 3.0, 0.1),
    ],
    runs=[engine.chain, engine.slope, derivative],
    snippet="""
        from engine.neuron import chain

        found = chain({x}, {layers}, {weight}, {bias}, {form!r})
        reach, slopes = found.reach, found.slopes
        print(reach[-1])
    """,
    provenance="The same neuron again and again; computed live",
    presets=[
        Preset(
            "Ten sigmoids",
            {"form": "sigmoid", "layers": 10, "weight": 1.0, "bias": 0.0, "x": 0.5},
            "A quarter at best, ten times over.",
        ),
        Preset(
            "Ten ReLUs",
            {"form": "relu", "layers": 10, "weight": 1.0, "bias": 0.0, "x": 0.5},
            "Slope 1: all of it arrives.",
        ),
        Preset(
            "A ReLU that is off",
            {"form": "relu", "layers": 10, "weight": 1.0, "bias": 0.0, "x": -0.5},
            "Slope 0 once is enough: nothing arrives.",
        ),
        Preset(
            "Explosion",
            {"form": "relu", "layers": 30, "weight": 2.0, "bias": 0.0, "x": 0.5},
            "Slopes above 1 multiply as well.",
        ),
        Preset(
            "Larger weights?",
            {"form": "sigmoid", "layers": 10, "weight": 6.0, "bias": -3.0, "x": 0.5},
            "Weight 6 times slope ¼ is more than 1, as long as every sum stays near zero.",
        ),
    ],
    height=600,
)
def chain(layers: int, form: str, weight: float, bias: float, x: float) -> tuple[Any, ...]:
    found = engine.chain(x, layers, weight, bias, form)
    depth = np.arange(1, layers + 1)
    names = dict.fromkeys((form, *COMPARED))
    picture = stack(
        curve(
            [
                (FORMS[name], depth, reaching(engine.chain(x, layers, weight, bias, name), name == form))
                for name in names
            ],
            title="How much of a nudge at the input arrives (size, logarithmic)",
            x_label="neurons passed",
            y_label="share that arrives",
            tensors=["grad", "ffn", "q", "k", "v", "resid"][: len(names)],
            log_y=True,
            points=True,
            marker=(layers, abs(float(found.reach[-1]))) if found.reach[-1] else None,
        ),
        bars(
            [f"neuron {i}" for i in depth],
            found.slopes,
            title="Weight × slope of each neuron, and the product so far",
            tensor="grad",
            notes=[f"so far {short(value)}" for value in found.reach],
        ),
    )
    end = float(found.reach[-1])
    shown = r" \cdot ".join(number(s, 3) for s in found.slopes[:4]) + (r" \cdots" if layers > 4 else "")
    left = rf"\grad{{\frac{{\partial h_{{{layers}}}}}{{\partial x}}}}"
    formula = rf"{left} = \prod_i w \, f'(z_i) = {shown} = \grad{{{number(end)}}}"
    sentence = pictures.chain_sentence(found, form, weight)
    return picture, sentence, formula, {"reach": found.reach, "slopes": found.slopes, "values": found.values}


# --- a gate ----------------------------------------------------------------------------------------------------------

GATES = {
    "silu": "SiLU (SwiGLU)",
    "gelu": "GELU (GEGLU)",
    "sigmoid": "sigmoid (GLU)",
    "relu": "ReLU (ReGLU)",
    "linear": "none (bilinear)",
}
GATE_AT, VALUE_AT = np.linspace(-6, 6, 25), np.linspace(4, -4, 9)


@chapter.lab(
    "gate",
    title="A gate: value × SiLU(gate)",
    controls=[
        Slider("value", "Value", 2.0, -4.0, 4.0, 0.1),
        Slider("gate", "Gate", 1.0, -6.0, 6.0, 0.1),
        Choice("form", "Activation of the gate", "silu", GATES),
    ],
    runs=[engine_gates.gated, silu, swiglu_steps],
    snippet="""
        import numpy as np
        from engine.gates import gated

        found = gated(np.array({value}), np.array({gate}), {form!r})
        output, by_value, by_gate = found.output, found.by_value, found.by_gate
        print(output, by_value, by_gate)
    """,
    provenance="Value and gate set by you; computed live",
    presets=[
        Preset(
            "Open",
            {"gate": 5.0, "value": 2.0, "form": "silu"},
            "A wide open gate multiplies: the output is nearly value times gate.",
        ),
        Preset(
            "Closed",
            {"gate": -6.0, "value": 2.0, "form": "silu"},
            "Nothing passes, whatever the value is, and neither side has a slope.",
        ),
        Preset(
            "Not quite closed",
            {"gate": -1.3, "value": 2.0, "form": "silu"},
            "The bottom of the dip: SiLU lets −0.278 of the value through, turned round.",
        ),
        Preset(
            "Nothing to pass",
            {"gate": 3.0, "value": 0.0, "form": "silu"},
            "With value 0 the gate has no say, and no slope of its own.",
        ),
        Preset(
            "The original gate",
            {"gate": 1.0, "value": 2.0, "form": "sigmoid"},
            "With a sigmoid the gate only lets through between nothing and all.",
        ),
    ],
    height=780,
)
def gate(value: float, gate: float, form: str) -> tuple[Any, ...]:
    v, g = np.array(value), np.array(gate)
    found = engine_gates.gated(v, g, form)
    surface = engine_gates.gated(VALUE_AT[:, None], GATE_AT[None], form).output
    out, name = float(found.output), FORMS[form]
    picture = stack(
        pictures.gate_curves(value, gate, form, out),
        matrix(
            surface,
            "Output for every value (down) and gate (across); the frame is where you are",
            "ffn",
            "surface",
            rows=[short(at) for at in VALUE_AT],
            columns=[short(at) for at in GATE_AT],
            picked=[int(np.argmin(np.abs(VALUE_AT - value))), int(np.argmin(np.abs(GATE_AT - gate)))],
            limit=12,
        ),
        readouts(
            [
                (f"{name} of the gate", short(found.opening)),
                ("output", short(out)),
                ("∂ output / ∂ value", short(found.by_value)),
                ("∂ output / ∂ gate", short(found.by_gate)),
            ]
        ),
    )
    sentence = (
        f"The gate lets {{{{opening|{short(found.opening)}}}}} times the value through: {{{{out|{short(out)}}}}}. "
        f"Move the value by 0.1, and the output moves by {short(0.1 * found.by_value)}; move the gate by 0.1, and it "
        f"moves by about {short(0.1 * found.by_gate)}."
    )
    name = r"\mathrm{SiLU}" if form == "silu" else "f"
    left = r"\grad{\frac{\partial\,\text{output}}{\partial\,\text{gate}}}"
    formula = (
        rf"\ffn{{\text{{output}}}} = {number(value)} \cdot {name}({number(gate)}) = {number(value)} \cdot "
        rf"({number(float(found.opening))}) = \ffn{{{number(out)}}}, \qquad {left} = {number(value)} \cdot "
        rf"{name}'({number(gate)}) = \grad{{{number(float(found.by_gate))}}}"
    )
    data = {
        "output": out,
        "opening": found.opening,
        "by_value": found.by_value,
        "by_gate": found.by_gate,
        "surface": surface,
    }
    return picture, sentence, formula, data


# --- in the real model -----------------------------------------------------------------------------------------------

LAYERS, NEURONS = 30, 1536
THRESHOLDS = np.arange(101) / 100


def shares_of(reading: Reading) -> np.ndarray:
    """The share of openings below each hundredth, in every layer: computed once a sentence."""
    return reading.model.memo.get(
        ("off shares", reading.ids), lambda: engine_gates.off_shares(reading.trace, list(THRESHOLDS), LAYERS)
    )


@chapter.lab(
    "gates",
    title="1,536 gates a layer, on your sentence",
    controls=[
        Slider("layer", "Layer", 5, 0, LAYERS - 1),
        Slider("threshold", "Nearly off: opening nearer to 0 than", 0.1, 0.01, 1.0, 0.01),
        Pick("token", "Token", 0),
    ],
    runs=[engine_gates.openings, engine_gates.share_below, engine_gates.histogram, engine_gates.strongest, silu],
    snippet="""
        from engine.gates import off_shares, openings
        from engine.model import load
        from engine.tokenization import encode

        trace = load().trace(encode({sentence!r}, "smollm2")[:48])
        opening = openings(trace, {layer})
        shares = off_shares(trace, [{threshold}], 30)[:, 0]
        print(opening.shape, shares.round(3))
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("The first layer", {"layer": 0, "threshold": 0.1, "token": 0}, "Gates close to zero on both sides."),
        Preset(
            "Shut, but not off",
            {"layer": 5, "threshold": 0.1, "token": 0},
            "Four of five gates are negative, and most of those sit in the dip.",
        ),
        Preset(
            "The wall",
            {"layer": 5, "threshold": 0.28, "token": 0},
            "SiLU never goes below −0.278: at that threshold all negative gates fall in at once.",
        ),
        Preset(
            "One giant",
            {"layer": 11, "threshold": 0.1, "token": 1},
            "One neuron of the first token is far out of proportion.",
        ),
        Preset(
            "The last layer",
            {"layer": 29, "threshold": 0.1, "token": 0},
            "Wider than any other: fewer gates are nearly off.",
        ),
    ],
    height=(740, 1312),
)
def gates(sentence: str, layer: int, threshold: float, token: int) -> tuple[Any, ...]:
    reading = read(sentence)
    token = min(max(token, 0), len(reading.ids))
    rows = slice(None) if token == 0 else slice(token - 1, token)
    before = reading.trace[f"blk.{layer}.ffn.gate"][rows]
    opening = engine_gates.openings(reading.trace, layer)[rows]
    hidden = reading.trace[f"blk.{layer}.ffn.hidden"]
    shares = shares_of(reading)[:, round(threshold * 100)]
    here = float(engine_gates.share_below(opening, np.array([threshold], np.float32))[0])
    where = "all tokens" if token == 0 else f"“{spoken(reading.pieces[token - 1])}”"
    top = [(token - 1 + t if token else t, n, v) for t, n, v in engine_gates.strongest(opening, 6)]
    picture = stack(
        real.whose(reading, token),
        real.histograms(before, opening, layer, threshold),
        row(
            real.shares_by_layer(shares, layer, threshold),
            bars(
                [f"#{n} {spoken(reading.pieces[t])}" for t, n, _ in top],
                [v for *_, v in top],
                title="The widest open: SiLU(gate), and what the neuron passes on",
                tensor="ffn",
                notes=[f"passes on {short(hidden[t, n])}" for t, n, _ in top],
            ),
        ),
        readouts(
            [
                ("nearly off", f"{here:.1%}"),
                ("of 1,536 neurons a token", f"{here * NEURONS:,.0f}"),
                ("gates below zero", f"{float(np.mean(before < 0)):.1%}"),
                ("lowest gate", short(before.min())),
                ("highest gate", short(before.max())),
            ]
        ),
    )
    t, n, v = top[0]
    text = (
        f"{reading.note}In layer {layer}, {where}: {{{{off|{here:.1%}}}}} of the neurons let through less than "
        f"{threshold:g} of their value either way. {float(np.mean(before < 0)):.0%} of the gates are below zero. The "
        f"widest open is neuron {n} at “{spoken(reading.pieces[t])}”, which multiplies its value by {short(v)}."
    )
    formula = (
        rf"\frac{{\#\{{\, |\mathrm{{SiLU}}(\text{{gate}})| < {threshold:g} \,\}}}}{{{before.size}}} = "
        rf"\frac{{{round(here * before.size)}}}{{{before.size}}} = \ffn{{{number(here, 3)}}}"
    )
    return picture, text, formula, {"shares": shares, "gate": before, "after": opening}


CHANGES = {
    "none": "nothing",
    **{f"below {t}": f"silence openings within ±{t}" for t in ("0.05", "0.1", "0.15", "0.2", "0.25", "0.28", "0.3")},
    **{f"use {name}": f"{FORMS[name]} instead of SiLU" for name in ("gelu", "relu", "leaky_relu", "tanh", "linear")},
}


def changed(model: Model, ids: tuple[int, ...], change: str) -> dict[str, np.ndarray]:
    """What the model says after a change of all its gates: one run, kept."""
    return model.memo.get(("gates changed", ids, change), lambda: engine_gates.effect(model, ids, change))


@chapter.lab(
    "silence",
    title="Are the ones that are nearly off needed?",
    controls=[Choice("change", "Change in all 30 layers", "below 0.1", CHANGES)],
    runs=[engine_gates.effect, engine_gates.without_nearly_off, engine_gates.with_activation],
    snippet="""
        from engine.gates import effect
        from engine.model import load
        from engine.tokenization import encode

        found = effect(load(), encode({sentence!r}, "smollm2")[:48], {change!r})
        surprisals, off = found["surprisals"], found["off"]
        print(surprisals.mean(), off)
    """,
    provenance="SmolLM2's real weights, run again with the change, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("A quarter silent", {"change": "below 0.1"}, "Neurons whose gate passes less than a tenth."),
        Preset("Two thirds silent", {"change": "below 0.25"}, "More than half of all work is left out."),
        Preset("The wall", {"change": "below 0.28"}, "A little more, and the whole dip of SiLU goes."),
        Preset("ReLU instead", {"change": "use relu"}, "Very nearly the same curve. It was not trained with it."),
        Preset("GELU instead", {"change": "use gelu"}, "The nearest relative: its dip is less deep, and that shows."),
    ],
    height=(620, 731),
)
def silence(sentence: str, change: str) -> tuple[Any, ...]:
    reading = read(sentence, least=2)
    plain, after = (changed(reading.model, reading.ids, name) for name in ("none", change))
    best, new = (
        [token for _, token, _ in engine_gates.strongest(found["probabilities"][None], 3)] for found in (plain, after)
    )
    shown = list(dict.fromkeys([*best, *new]))
    names = [spoken(piece(i)) for i in shown]
    losses = [float(found["surprisals"].mean()) for found in (plain, after)]
    off = float(after["off"].mean())
    picture = stack(
        real.next_tokens(names, plain["probabilities"][shown], after["probabilities"][shown], CHANGES[change]),
        real.surprisals(plain["surprisals"], after["surprisals"]),
        readouts(
            [
                ("neurons silenced", f"{off:.1%}"),
                ("loss as it is", f"{losses[0]:.3f} nats"),
                ("loss with the change", f"{losses[1]:.3f} nats"),
            ]
        ),
    )
    first = f"{off:.0%} of all neurons are silenced. " if change.startswith("below") else ""
    same = shown[0] == new[0]
    names_now = f"still “{names[0]}”" if same else f"“{spoken(piece(new[0]))}” instead of “{names[0]}”"
    worse = losses[1] - losses[0]
    text = (
        f"{reading.note}{first}The model's first choice is {names_now}. The loss on your sentence goes from "
        f"{losses[0]:.2f} to {losses[1]:.2f} nats a token: "
        + ("hardly anything." if abs(worse) < 0.2 else "it can be felt." if worse < 2 else "the model is broken.")
    )
    if change == "none":
        text = f"{reading.note}Nothing is changed: first choice “{names[0]}”, loss {losses[0]:.2f} nats a token."
    formula = (
        rf"\logits{{L}} = {number(losses[0])} \;\rightarrow\; \logits{{{number(losses[1])}}} \;\text{{nats a token}}"
    )
    data = {"surprisals": after["surprisals"], "off": after["off"], "probabilities": after["probabilities"][shown]}
    return picture, text, formula, data


# --- numbers of the prose ------------------------------------------------------------


@chapter.number
def gelu_exact() -> str:
    return f"{float(engine.bend('gelu', np.array(1.23))):.4f}"


@chapter.number
def gelu_approximate() -> str:
    return f"{float(engine.bend('gelu_tanh', np.array(1.23))):.4f}"


@chapter.number
def gelu_gap() -> str:
    """The largest difference between the two forms, on a fine grid."""
    x = np.linspace(-8, 8, 16001)
    return f"{np.max(np.abs(engine.bend('gelu', x) - engine.bend('gelu_tanh', x))):.5f}"


@chapter.number
def any_difference() -> str:
    layers = linear.drawn_layers(4, quarters=False)
    return short(linear.compare(ALL_INPUTS, layers).difference)


@chapter.number
def sine_16() -> float:
    return round(fits.fit(target_curve("sine", ""), fits.even(16)).error, 4)


@chapter.number
def sine_64() -> float:
    return round(fits.fit(target_curve("sine", ""), fits.even(64)).error, 5)


@chapter.number
def step_ratio() -> float:
    y = target_curve("step", "")
    return round(fits.fit(y, fits.even(16)).error / fits.fit(y, fits.even(64)).error, 1)


@chapter.number
def step_needs() -> int:
    return len(chosen_kinks("step", "").at)


@chapter.number
def step_carries() -> int:
    return fits.fit(target_curve("step", ""), chosen_kinks("step", "")).carrying


@chapter.number
def ten_sigmoids() -> str:
    return f"{10**6 * sigmoid_bound():.2f} millionths"


@chapter.number
def silu_dip() -> str:
    x = np.linspace(-3, 0, 30001)
    return f"{np.min(engine.bend('silu', x)):.3f}".replace("-", "−")


# --- check yourself ------------------------------------------------------------


@chapter.answer
def dead_relu() -> float:
    """How far the output of a ReLU with sum −1.77 moves when a weight of input 0.7 grows by 0.1."""
    x, w = np.array(X), np.array(W)
    before, after = (engine.neuron(x, w + np.array([d, 0, 0]), -3.0, "relu").output for d in (0.0, 0.1))
    return float(after - before)


@chapter.answer
def sigmoid_bound() -> float:
    return float(engine.slope("sigmoid", np.zeros(1))[0] ** 10)


@chapter.answer
def twice_the_neurons() -> float:
    y = target_curve("sine", "")
    return fits.fit(y, fits.even(32)).error / fits.fit(y, fits.even(64)).error


@chapter.answer
def share_off(sentence: str, layer: int, threshold: float, token: int) -> float:
    """The share of nearly closed gates at the reader's own layer and threshold, over all tokens."""
    return float(shares_of(read(sentence))[layer, round(threshold * 100)])


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
