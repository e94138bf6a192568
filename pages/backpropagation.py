"""Backpropagation. The labs of the page."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import backpropagation as engine
from engine import saliency, tiny_network, tiny_training, traced
from engine.expression import expression_graph, parse
from engine.formulas import number as plain
from engine.ledger import CONFIGS
from engine.model import Model
from engine.sampling import cross_entropy
from engine.tiny_network import PROMPT, VOCABULARY
from pages import _countdown as countdown
from pages import _graph
from pages._reading import Reading, read
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Text
from ui.figures import bars, curve, readouts, row, stack, table, tokens
from ui.lab import Preset, ReaderError
from ui.mathml import number, superscript

chapter = Chapter(__name__, Path(__file__).parent)
chapter.code["step"] = tiny_network.training_step
chapter.code["backward"] = engine.backward
chapter.code["record"] = traced.record

TARGET = Choice("target", "What really comes next", "liftoff", {word: word for word in VOCABULARY})
SEED = Slider("seed", "Seed of the random start", 0, 0, 50)
START = Choice("seed", "Random start", "0", {str(seed): f"start {seed}" for seed in range(6)})


def start(seed: int) -> tiny_network.Parameters:
    return tiny_network.tiny_network(seed)


# --- three, two, one, … --------------------------------------------------------------------------------------------


@chapter.lab(
    "step",
    title="Three, two, one, …: one training step",
    controls=[
        Slider("stage", "Stage", 1, 1, 4),
        TARGET,
        Slider("rate", "Learning rate", 0.5, 0.0, 3.0, 0.05),
        SEED,
        Choice("view", "Drawn as", "network", {"network": "a network", "matrices": "matrices"}),
    ],
    runs=[tiny_network.training_step, tiny_network.forward, cross_entropy, engine.backward],
    snippet="""
        from engine.tiny_network import PROMPT, tiny_network, trajectory

        before, after = trajectory(tiny_network({seed}), 2, PROMPT, {target!r}, {rate})
        loss_before, loss_after = before.loss_before, before.loss_after
        probabilities = before.values.probabilities
        gradient_w1, gradient_w2 = before.gradients["w1"], before.gradients["w2"]
        print(loss_before, "->", loss_after)
    """,
    provenance="Random weights; forward pass, gradients and update computed live",
    presets=[
        Preset("1 Target", {"stage": 1}, "The text itself says what the answer should have been."),
        Preset("2 Forward", {"stage": 2}, "Values from left to right, and at the end one number: the loss."),
        Preset("3 Backward", {"stage": 3}, "Gradients from right to left, each from those after it."),
        Preset("4 Update", {"stage": 4}, "Every parameter moves a little against its gradient."),
        Preset(
            "Nearly right",
            {"stage": 3, "target": "liftoff", "seed": 23},
            "The target was the likeliest word already, so little comes back from the loss to the logits.",
        ),
        Preset("As matrices", {"stage": 2, "view": "matrices"}, "Hover a cell to see the products that sum to it."),
    ],
    height=720,
)
def step(stage: int, target: str, rate: float, seed: int, view: str) -> tuple[Any, ...]:
    before, after = tiny_network.trajectory(start(seed), 2, PROMPT, target, rate)
    network = view == "network"
    drawn = countdown.as_network(before, after, stage, rate) if network else countdown.as_matrices(before, stage, rate)
    picture = stack(drawn, row(countdown.guess(before, after, stage), countdown.losses(before, stage)))
    data = {
        "loss_before": before.loss_before,
        "loss_after": before.loss_after,
        "probabilities": before.values.probabilities,
        "gradient_w1": before.gradients["w1"],
        "gradient_w2": before.gradients["w2"],
    }
    said = countdown.sentence(before, after, stage, rate)
    return picture, said, countdown.formula(before, stage, rate), data


# --- again and again -----------------------------------------------------------------------------------------------

STEPS = 60
RATES = ("0.02", "0.05", "0.1", "0.2", "0.5", "1", "1.5", "2", "3", "4", "6", "8", "10")
"""Choices and no slider: each takes a whole descent, which a finger on a slider would outrun."""


def continuations(held: int) -> list[str]:
    """What follows “three, two, one” in four texts: in `held` of them the countdown starts over."""
    return ["liftoff"] * (4 - held) + ["three"] * held


@lru_cache(maxsize=128)
def whole_run(seed: int, held: int, rate: float) -> tiny_training.Run:
    """All 60 steps, kept, so that the slider for the steps only looks at them."""
    return tiny_training.descend(start(seed), continuations(held), STEPS, rate)


@chapter.lab(
    "repeat",
    title="Repeat, and watch the loss",
    controls=[
        Slider("steps", "Steps taken", 20, 0, STEPS),
        Choice("rate", "Learning rate", "0.5", {rate: rate for rate in RATES}),
        Choice("held", "Texts that start over", "1", {str(held): f"{held} of 4" for held in range(4)}),
        START,
    ],
    runs=[tiny_training.descend, tiny_training.mean_loss, engine.value_and_grad],
    snippet="""
        from engine.tiny_network import tiny_network
        from engine.tiny_training import descend

        continuations = ["liftoff"] * (4 - {held}) + ["three"] * {held}
        run = descend(tiny_network({seed}), continuations, 60, {rate})
        losses, probabilities, floor = run.losses, run.probabilities, run.floor
        print(losses[{steps}], probabilities[{steps}])
    """,
    provenance="Random weights, trained live on four short texts",
    presets=[
        Preset(
            "About right",
            {"rate": "0.5", "steps": 60, "held": "1", "seed": "0"},
            "The loss falls at every step and settles near the floor.",
        ),
        Preset(
            "Too small",
            {"rate": "0.02", "steps": 60, "held": "1", "seed": "0"},
            "The direction is right, but 60 steps are not nearly enough.",
        ),
        Preset(
            "Too large",
            {"rate": "8", "steps": 60, "held": "1", "seed": "0"},
            "Each step jumps over the valley; the loss bounces and never settles.",
        ),
        Preset(
            "At the edge",
            {"rate": "2", "steps": 60, "held": "1", "seed": "1"},
            "It comes down in the end, but not on a straight way.",
        ),
        Preset(
            "One answer only",
            {"rate": "8", "steps": 60, "held": "0", "seed": "0"},
            "Where nothing ever contradicts, hardly any rate is too large.",
        ),
    ],
    height=420,
)
def repeat(steps: int, rate: str, held: str, seed: str) -> tuple[Any, ...]:
    texts = continuations(int(held))
    run = whole_run(int(seed), int(held), float(rate))
    times, now = np.arange(STEPS + 1), run.losses[steps]
    lowest = ("floor: the entropy of the four texts", times, np.full(STEPS + 1, run.floor))
    picture = row(
        curve(
            [("loss", times, run.losses), lowest],
            title="Loss after each step",
            x_label="steps",
            y_label="loss, nats",
            tensors=["logits", "resid"],
            marker=(steps, now),
        ),
        stack(
            bars(
                list(VOCABULARY),
                run.probabilities[steps],
                title=f"Guess after {steps} steps",
                tensor="logits",
                limit=1,
                share=True,
                notes=[f"{texts.count(word)} of 4 texts" for word in VOCABULARY],
            ),
            readouts(
                [("loss", plain(now)), ("floor", plain(run.floor)), ("gradient", plain(run.gradient_norms[steps]))],
            ),
        ),
    )
    rising = int(np.sum(np.diff(run.losses) > 0))
    course = f"{rising} of the {STEPS} steps made it worse" if rising else f"Every one of the {STEPS} steps lowers it"
    sentence = (
        f"After {steps} steps the loss is {plain(now)}, {power(now - run.floor)} above the {plain(run.floor)} that no "
        f"network can beat. {course}; at the end it stands at {plain(run.losses[-1])}."
    )
    length = rf"\text{{length of }} \grad{{\nabla L}} = \grad{{{number(run.gradient_norms[steps])}}}"
    formula = rf"\theta \leftarrow \theta - {rate} \cdot \grad{{\nabla L}}, \qquad {length}"
    return picture, sentence, formula, {"losses": run.losses, "probabilities": run.probabilities, "floor": run.floor}


def power(value: float) -> str:
    """A number for a sentence: very small ones as 5.8 · 10⁻⁹."""
    if value == 0 or abs(value) >= 1e-4:
        return plain(value)
    mantissa, exponent = f"{value:.1e}".replace("-", "−", 1 if value < 0 else 0).split("e")
    raised = superscript(int(exponent))
    return f"10{raised}" if mantissa == "1.0" else f"{mantissa} · 10{raised}"


# --- gradient check ------------------------------------------------------------------------------------------------

STEP_SIZES = [10.0**exponent for exponent in range(-13, 1, 2)]
GROUPS = {"worst": "the ten that agree least", "embedding": "embedding", "w1": "W1", "b1": "b1", "w2": "W2", "b2": "b2"}


@lru_cache(maxsize=64)
def errors_by_step_size(seed: int, target: str) -> np.ndarray:
    return engine.worst_errors(lambda p: tiny_network.loss_of(p, target=target), (start(seed),), STEP_SIZES)


# Not a slider: each start takes seven more checks, which a finger on a slider would outrun.


@chapter.lab(
    "check",
    title="Is the gradient right? Ask a second way",
    controls=[
        Slider("exponent", "Step ε, as a power of ten", -5.0, -13.0, 0.0, 0.5),
        Choice("group", "Parameters to list", "worst", GROUPS),
        TARGET,
        START,
    ],
    runs=[engine.gradient_check, engine.worst_errors, tiny_network.loss_of],
    snippet="""
        from engine.backpropagation import gradient_check
        from engine.tiny_network import loss_of, tiny_network

        check = gradient_check(lambda p: loss_of(p, target={target!r}), (tiny_network({seed}),), eps=10**{exponent})
        analytic = [row.analytic for row in check.rows]
        numeric = [row.numeric for row in check.rows]
        worst = check.worst
        print(worst)
    """,
    provenance="Random weights; both derivatives computed live in float64",
    presets=[
        Preset("Best", {"exponent": -5}, "About eight digits agree, and no choice of ε gives many more."),
        Preset("Too coarse", {"exponent": -1}, "The loss is a curve, and a long chord is not its slope."),
        Preset(
            "Too fine",
            {"exponent": -12},
            "The two losses agree in nearly all their digits, and little is left of the difference.",
        ),
    ],
    height=460,
)
def check(exponent: float, group: str, target: str, seed: str) -> tuple[Any, ...]:
    eps, first = 10**exponent, int(seed)
    found = engine.gradient_check(lambda p: tiny_network.loss_of(p, target=target), (start(first),), eps)
    rows = [(f"{r.name.partition('.')[2]}[{', '.join(map(str, r.index))}]", r) for r in found.rows]
    by_error = sorted(rows, key=lambda named: -named[1].relative_error)
    listed = by_error[:10] if group == "worst" else [named for named in rows if named[0].startswith(group + "[")]
    picture = row(
        curve(
            [("worst of all 45", STEP_SIZES, errors_by_step_size(first, target))],
            title="Largest relative error against ε",
            x_label="ε",
            y_label="relative error",
            tensors=["grad"],
            marker=(eps, found.worst),
            log_x=True,
            log_y=True,
            points=True,
        ),
        table(
            ["parameter", "backward", "difference", "error"],
            [[name, r.analytic, r.numeric, r.relative_error] for name, r in listed],
            title=f"Both derivatives: {GROUPS[group]}",
        ),
    )
    name, r = by_error[0]
    sentence = (
        f"With ε = {power(eps)} the worst of the 45 is {name}: {plain(r.analytic)} by backpropagation, "
        f"{plain(r.numeric)} by difference, a relative error of {power(found.worst)}. "
        f"{_side(first, target, eps, found.worst)}"
    )
    data = {"analytic": [r.analytic for r in found.rows], "numeric": [r.numeric for r in found.rows]}
    return picture, sentence, _difference_formula(r, eps), data | {"worst": found.worst}


def _side(seed: int, target: str, eps: float, worst: float) -> str:
    """Which error rules at this step size, told from where the smallest one is."""
    errors = errors_by_step_size(seed, target)
    best = STEP_SIZES[int(np.argmin(errors))]
    if worst < 30 * np.min(errors):
        return "That is about as well as this check can do."
    if eps > best:
        return "The step is too long: the loss bends away from the chord."
    return "The step is too short: rounding eats the difference of the two losses."


def _difference_formula(r: engine.GradientRow, eps: float) -> str:
    quotient = r"\frac{L(\theta + \varepsilon) - L(\theta - \varepsilon)}{2 \varepsilon}"
    slope = r"\grad{\frac{\partial L}{\partial \theta}}"
    return (
        rf"{quotient} = {number(r.numeric, 9)}, \qquad {slope} = \grad{{{number(r.analytic, 9)}}}, "
        rf"\qquad \varepsilon = {number(eps)}"
    )


# --- the reader's own expression -----------------------------------------------------------------------------------

GRAMMAR = "Use a, b, c, d, numbers, + - * / ^ and brackets; exp log tanh sin cos sqrt relu sigmoid."


@chapter.lab(
    "graph",
    title="Any expression of yours, differentiated",
    controls=[
        Text("expression", "Expression", "(a*b + c)^2", limit=200, rows=1, help=GRAMMAR),
        *(
            Slider(name, name, value, -10.0, 10.0, 0.1)
            for name, value in zip("abcd", (2.0, -3.0, 8.0, 1.0), strict=True)
        ),
    ],
    runs=[expression_graph, engine.backward, parse],
    snippet="""
        from engine.expression import expression_graph

        graph = expression_graph({expression!r}, dict(a={a}, b={b}, c={c}, d={d}))
        values = [float(node.value) for node in graph.nodes]
        gradients = [float(node.gradient) for node in graph.nodes]
        for node in graph.nodes:
            print(node.name, node.operation, float(node.value), float(node.gradient))
    """,
    provenance="Your expression and values; recorded and differentiated live",
    presets=[
        Preset("A product", {"expression": "a * b", "a": 2, "b": -3}, "Each factor's slope is the other factor."),
        Preset(
            "A chain",
            {"expression": "tanh(a*b + c)", "a": 0.5, "b": 2, "c": -0.7},
            "A neuron with one input. Along the path the local derivatives multiply.",
        ),
        Preset(
            "Used again",
            {"expression": "a*a + a*b", "a": 3, "b": 2},
            "Three lines leave a; what comes back along them is added.",
        ),
        Preset(
            "Saturated",
            {"expression": "sigmoid(a*b)", "a": 3, "b": 3},
            "Far out the curve is flat, and almost nothing comes back. So gradients vanish.",
        ),
        Preset(
            "Nearly by zero",
            {"expression": "a / b", "a": 1, "b": 0.1},
            "A tiny change of b changes a lot. So gradients explode.",
        ),
        Preset(
            "Switched off",
            {"expression": "relu(a*b + c) * d", "a": 2, "b": -3, "c": 1, "d": 4},
            "Below zero relu is flat: nothing before it learns anything.",
        ),
        Preset(
            "A loss",
            {"expression": "log(exp(a) + exp(b) + exp(c)) - c", "a": 1, "b": 0, "c": 2},
            "Cross entropy of three logits: the gradients are the probabilities, less 1 for the target c.",
        ),
    ],
    height=250,
)
def graph(expression: str, a: float, b: float, c: float, d: float) -> tuple[Any, ...]:
    parsed = parse(expression)
    if unknown := [name for name in parsed.names if name not in "abcd"]:
        raise ReaderError(f"There are sliders for a, b, c and d; the expression also uses {', '.join(unknown)}.")
    found = expression_graph(parsed, {"a": a, "b": b, "c": c, "d": d})
    inputs = [node for node in found.nodes if not node.operation]
    slopes = ", ".join(f"{{{{node:{n.index}|{n.name} {power(float(n.gradient))}}}}}" for n in inputs)
    sentence = f"The value is {power(float(found.value))}. Its gradient: {slopes}. {_what_if(inputs)}"
    data = {
        "values": [float(node.value) for node in found.nodes],
        "gradients": [float(node.gradient) for node in found.nodes],
        "names": [node.name for node in found.nodes],
    }
    return _graph.drawn(found), sentence, _graph.by_name(found), data


def _what_if(inputs: list[engine.Node]) -> str:
    strongest = max(inputs, key=lambda node: abs(float(node.gradient)))
    slope = float(strongest.gradient)
    if abs(slope) < 1e-3:
        return "All of it is nearly zero: here the value hardly depends on anything."
    way = "rise" if slope > 0 else "fall"
    return f"If {strongest.name} grew by 0.01, the value would {way} by about {plain(abs(slope) / 100)}."


# --- in the real model ---------------------------------------------------------------------------------------------

LIMIT = 32


@chapter.lab(
    "tokens",
    title="Which tokens move the prediction",
    controls=[
        Slider("nudge", "Step against the gradient, % of the input", 0.3, 0.0, 5.0, 0.1),
        Pick("token", "Token whose surprisal is asked about", -1),
    ],
    runs=[saliency.token_saliency, Model.embedding_gradient, Model.loss, saliency.nudge, engine.value_and_grad],
    snippet="""
        from engine.model import load
        from engine.saliency import nudge, token_saliency
        from engine.tokenization import encode

        model, ids = load(), encode({sentence!r}, "smollm2")[:32]
        target = {token} if 0 < {token} < len(ids) else None
        found = token_saliency(model, ids, target)
        norms, times_input, loss = found.norms, found.times_input, found.loss
        moved = nudge(model, ids, {nudge} / 100, target)
        promised, computed = moved.promised, moved.computed
        print(norms)
    """,
    provenance="SmolLM2's own weights; gradient through all 30 blocks, computed live",
    presets=[
        Preset("The whole sentence", {"token": -1}, "The mean loss of all guesses."),
        Preset("A short step", {"nudge": 0.1}, "So short a step does what the slope promised."),
        Preset("Too long a step", {"nudge": 5}, "That far out the slope promises wonders, and the loss mostly rises."),
    ],
    real=True,
    height=(560, 1133),
)
def tokens_that_matter(nudge: float, token: int, sentence: str) -> tuple[Any, ...]:
    reading = read(sentence, limit=LIMIT, least=2)
    target = asked(token, reading)
    found = saliency.token_saliency(reading.model, reading.ids, target)
    moved = saliency.nudge(reading.model, reading.ids, nudge / 100, target)
    names = [f"{piece.replace(' ', '·')} {i}" for i, piece in enumerate(reading.pieces)]
    each: dict[str, Any] = {
        "keys": [f"token:{i}" for i in range(len(names))],
        "marked": [] if target is None else [target],
    }
    picture = stack(
        tokens(
            [{"text": piece, "note": str(i)} for i, piece in enumerate(reading.pieces)],
            title="Click a token to ask about its surprisal alone; the stronger its colour, the longer its gradient",
            pick="token",
            picked=target,
            shares=found.norms,
        ),
        row(
            bars(names, found.norms, title="Length of the gradient, nats per unit", tensor="grad", **each),
            bars(names, found.times_input, title="Gradient × input, nats", tensor="resid", **each),
        ),
        readouts(
            [
                ("loss asked about", f"{found.loss:.4f} nats"),
                ("step", f"{nudge:g} %"),
                ("the slope promises", signed(moved.promised)),
                ("the model gives", signed(moved.computed)),
            ]
        ),
    )
    data = {
        "norms": found.norms,
        "times_input": found.times_input,
        "loss": found.loss,
        "promised": moved.promised,
        "computed": moved.computed,
        "gradient": found.gradient,
    }
    return picture, reading.note + _said_of(reading, found, token), _length_formula(found, target), data


def asked(token: int, reading: Reading) -> int | None:
    """The position asked about; None for the whole sentence (also for the first token, which is never guessed)."""
    return token if 0 < token < len(reading.ids) else None


def word(reading: Reading, at: int) -> str:
    return reading.pieces[at].strip() or reading.pieces[at].replace(" ", "·")


def signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _said_of(reading: Reading, found: saliency.Saliency, token: int) -> str:
    top, target = int(np.argmax(found.norms)), asked(token, reading)
    length = f"{{{{token:{top}|{plain(found.norms[top])}}}}}"
    strongest = f"The vector of “{word(reading, top)}” moves it most: {length} nats a unit."
    if target is None:
        first = "The first token is never guessed, so this is the whole sentence. " if token == 0 else ""
        silent = "The last token has no gradient: no guess follows it."
        return f"{first}The mean loss is {plain(found.loss)} nats. {strongest} {silent}"
    loss = f"The surprisal of “{word(reading, target)}” is {plain(found.loss)} nats."
    later = len(reading.ids) - target - 1
    hidden = f"It and the {later} after it have" if later else "It has"
    return f"{loss} {strongest} {hidden} gradient exactly 0: the guess could not see that far."


def _length_formula(found: saliency.Saliency, target: int | None) -> str:
    loss = "L" if target is None else rf"L_{{{target}}}"
    top, width = int(np.argmax(found.norms)), found.gradient.shape[1]
    vector = rf"\grad{{\frac{{\partial {loss}}}{{\partial x_{{{top}}}}}}}"
    entry = rf"\grad{{\frac{{\partial {loss}}}{{\partial x_{{{top},i}}}}}}"
    squares = rf"\sqrt{{\sum_{{i=1}}^{{{width}}} \left({entry}\right)^2}}"
    return rf"\left\lVert {vector} \right\rVert = {squares} = \grad{{{number(found.norms[top])}}}"


# --- numbers of the prose ------------------------------------------------------------------------------------------


@chapter.number
def tiny_parameters() -> int:
    return sum(array.size for array in tiny_network.tiny_network(0).values())


@chapter.number
def tiny_weights() -> int:
    return sum(tiny_network.tiny_network(0)[name].size for name in ("w1", "w2"))


@chapter.number
def tiny_biases() -> int:
    return sum(tiny_network.tiny_network(0)[name].size for name in ("b1", "b2"))


@chapter.number
def tiny_table() -> int:
    return tiny_network.tiny_network(0)["embedding"].size


@chapter.number
def smol_parameters() -> int:
    return CONFIGS["SmolLM2-135M"].parameters


@chapter.number
def difference_passes() -> int:
    return 2 * CONFIGS["SmolLM2-135M"].parameters


@chapter.number
def difference_years() -> str:
    """At six passes a second."""
    return f"{2 * CONFIGS['SmolLM2-135M'].parameters / 6 / (365 * 24 * 3600):.1f}"


@chapter.number
def first_loss() -> str:
    return plain(tiny_network.training_step(tiny_network.tiny_network(0)).loss_before)


@chapter.number
def second_loss() -> str:
    return plain(tiny_network.training_step(tiny_network.tiny_network(0)).loss_after)


@chapter.number
def uniform_loss() -> str:
    return plain(np.log(len(VOCABULARY)))


@chapter.number
def floor() -> str:
    return plain(tiny_training.floor_of(continuations(1)))


# --- check yourself ------------------------------------------------------------------------------------------------


@chapter.answer
def negative_logits(stage: int, target: str, rate: float, seed: int, view: str) -> str:
    found = tiny_network.training_step(tiny_network.tiny_network(seed), PROMPT, target, rate)
    falling = [word for word, gradient in zip(VOCABULARY, found.gradients["logits"], strict=True) if gradient < 0]
    return "only the target's" if falling == [target] else "all four" if len(falling) == len(VOCABULARY) else "several"


@chapter.answer
def used_twice() -> float:
    return float(expression_graph("a*a + a*b", {"a": 3.0, "b": 2.0}).gradient("a"))


@chapter.answer
def gradients_after(nudge: float, token: int, sentence: str) -> int:
    reading = read(sentence, limit=LIMIT, least=2)
    target = asked(token, reading) or len(reading.ids) // 2
    return int(np.count_nonzero(saliency.token_saliency(reading.model, reading.ids, target).norms[target:]))


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
