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
from engine.tiny_network import PROMPT, VOCABULARY, Step
from pages._reading import Reading, read
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Text
from ui.figures import Picture, bars, curve, matrix, network, readouts, row, sign, stack, table, tokens
from ui.figures.layers import layered
from ui.lab import Preset, ReaderError
from ui.mathml import number

chapter = Chapter(__name__, Path(__file__).parent)
chapter.code["step"] = tiny_network.training_step
chapter.code["backward"] = engine.backward
chapter.code["record"] = traced.record

TARGET = Choice("target", "What really comes next", "liftoff", {word: word for word in VOCABULARY})
SEED = Slider("seed", "Seed of the random start", 0, 0, 50)
UNKNOWN = "—"


# --- three, two, one, … --------------------------------------------------------------------------------------------

FORWARD, BACKWARD, UPDATE = 2, 3, 4


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
        Preset("Already right", {"target": "three", "stage": 3, "seed": 3}, "A likelier target: a smaller error, smaller gradients."),
    ],
    height=720,
)  # fmt: skip
def step(stage: int, target: str, rate: float, seed: int, view: str) -> tuple[Any, ...]:
    before, after = tiny_network.trajectory(tiny_network.tiny_network(seed), 2, PROMPT, target, rate)
    drawn = _network(before, after, stage, rate) if view == "network" else _matrices(before, stage, rate)
    picture = stack(drawn, row(_guess(before, after, stage), _losses(before, stage)))
    data = {
        "loss_before": before.loss_before,
        "loss_after": before.loss_after,
        "probabilities": before.values.probabilities,
        "gradient_w1": before.gradients["w1"],
        "gradient_w2": before.gradients["w2"],
    }
    return picture, _step_sentence(before, after, stage, rate), _step_formula(before, stage, rate), data


def _guess(before: Step, after: Step, stage: int) -> Picture:
    known, values = stage >= FORWARD, after.values if stage == UPDATE else before.values
    notes = [f"was {p:.1%}" for p in before.values.probabilities] if stage == UPDATE else []
    return bars(
        list(VOCABULARY), values.probabilities if known else np.full(len(VOCABULARY), np.nan),
        title="Guess for the word after “three, two, one”" + (", after the update" if stage == UPDATE else ""),
        tensor="logits", limit=1, share=True, notes=notes, keys=[f"word:{word}" for word in VOCABULARY],
        marked=[VOCABULARY.index(before.target)],
    )  # fmt: skip


def _losses(before: Step, stage: int) -> Picture:
    loss, after = plain(before.loss_before), plain(before.loss_after)
    return readouts([("target", before.target), ("loss before", loss if stage >= FORWARD else UNKNOWN), ("loss after", after if stage == UPDATE else UNKNOWN)])


def _network(before: Step, after: Step, stage: int, rate: float) -> Picture:
    shown = after if stage == UPDATE else before
    nodes = [_node(unit, i, before, shown, stage) for i, unit in enumerate(shown.units)]
    loss = {"id": "loss", "label": "loss", "column": 3, "row": 2.5, "tensor": "logits", "note": _loss_note(shown, stage)}
    loss |= {"value": shown.loss_before} if stage >= FORWARD else {}
    loss |= {"grad": 1.0} if stage == BACKWARD else {}
    edges = [_edge(link, new, before, stage, rate) for link, new in zip(before.links, after.links, strict=True)]
    edges += [_into_loss(unit, stage) for unit in before.units if unit.layer == 2]
    return network(
        [*nodes, loss], edges, title="Each line is a weight; thickness is its size, broken lines are negative",
        columns=["embeddings", "hidden, tanh", "logits", "loss"], gap=(205, 84), edge_values=True,
    )  # fmt: skip


def _node(unit: tiny_network.Unit, place: int, before: Step, shown: Step, stage: int) -> dict[str, Any]:
    inside = int(unit.name[1:])
    rows = {0: float(inside), 1: 0.5 + 2 * inside, 2: 0.25 + 1.5 * inside}
    node = {
        "id": unit.name,
        "label": unit.label,
        "column": unit.layer,
        "row": rows[unit.layer],
        "tensor": ("resid", "ffn", "logits")[unit.layer],
        "note": _value_note(unit, inside, shown) if stage >= FORWARD or unit.layer == 0 else f"{unit.label}: not computed yet",
        "key": f"word:{unit.label}" if unit.layer == 2 else unit.name,
    }  # fmt: skip
    node |= {"value": unit.value} if stage >= FORWARD or unit.layer == 0 else {}
    node |= {"grad": unit.gradient} if stage == BACKWARD else {}
    node |= {"note": _gradient_note(unit, inside, before)} if stage == BACKWARD else {}
    return node | ({"state": "wanted"} if unit.layer == 2 and unit.label == before.target else {})


def _value_note(unit: tiny_network.Unit, inside: int, shown: Step) -> str:
    if unit.layer == 0:
        return f"{unit.label} = {plain(unit.value)}: a number of this word's row in the embedding table"
    if unit.layer == 1:
        return f"{unit.label} = tanh({plain(shown.values.sums[inside])}) = {plain(unit.value)}: the six inputs times their weights, plus bias {plain(shown.parameters['b1'][inside])}, bent"
    return f"logit of “{unit.label}” = {plain(unit.value)}: the three hidden values times their weights, plus bias {plain(shown.parameters['b2'][inside])}"


def _gradient_note(unit: tiny_network.Unit, inside: int, before: Step) -> str:
    if unit.layer == 2:
        return f"∂loss/∂({unit.label}) = probability − {'1, as it is the target' if unit.label == before.target else '0, as it is not the target'} = {unit.formula} = {plain(unit.gradient)}"
    gradient = f"∂loss/∂({unit.label}) = {unit.formula} = {plain(unit.gradient)}"
    if unit.layer == 0:
        return gradient
    bent = before.gradients["sums"][inside]
    return f"{gradient}; before tanh: · (1 − {plain(abs(unit.value))}²) = {plain(bent)}, which is also the gradient of the bias"


def _loss_note(shown: Step, stage: int) -> str:
    if stage < FORWARD:
        return "loss: not computed yet"
    chance = shown.values.probabilities[VOCABULARY.index(shown.target)]
    own = "; its gradient by itself is 1, and everything starts from there" if stage == BACKWARD else ""
    return f"loss = −ln {plain(chance)} = {plain(shown.loss_before)}{own}"


def _edge(link: tiny_network.Link, new: tiny_network.Link, before: Step, stage: int, rate: float) -> dict[str, Any]:
    edge = {"from": link.source, "to": link.target, "value": link.weight, "note": f"weight {link.name} = {plain(link.weight)}"}
    if stage == BACKWARD:
        used = before.values.inputs if link.name.startswith("w1") else before.values.hidden
        edge["grad"] = link.gradient
        edge["note"] = (
            f"weight {link.name} = {plain(link.weight)}; the sum grows by the value it multiplies, {plain(used[int(link.source[1:])])}; "
            f"∂loss/∂{link.name} = {link.formula} = {plain(link.gradient)}"
        )
    if stage == UPDATE:
        moved = f"{plain(link.weight)} − {plain(rate)} · {_bracketed(link.gradient)} = {plain(new.weight)}"
        edge |= {"value": new.weight, "text": f"{_brief(link.weight)} → {_brief(new.weight)}", "note": f"weight {link.name}: {moved}"}
    return edge


def _into_loss(unit: tiny_network.Unit, stage: int) -> dict[str, Any]:
    edge = {"from": unit.name, "to": "loss", "note": f"“{unit.label}” enters the loss through the softmax"}
    if stage == BACKWARD:
        edge["text"] = unit.formula
        edge["note"] = f"local derivative of the loss by the logit of “{unit.label}”: probability − target = {unit.formula} = {plain(unit.gradient)}"
    return edge


def _bracketed(value: float) -> str:
    return f"({plain(value)})" if value < 0 else plain(value)


def _brief(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _matrices(s: Step, stage: int, rate: float) -> Picture:
    v, p, g = s.values, s.parameters, s.gradients
    names = [f"{word}[{i}]" for word in PROMPT for i in range(2)]
    hidden, words = [f"h{i}" for i in range(3)], list(VOCABULARY)
    w1 = matrix(p["w1"], title="W1", name="w1", tensor="ffn", rows=names, columns=hidden, limit=1.5)
    w2 = matrix(p["w2"], title="W2", name="w2", tensor="ffn", rows=hidden, columns=words, limit=1.5)
    x = matrix(v.inputs, title="Inputs: three embeddings, end to end", name="x", tensor="resid", columns=names, limit=2)
    if stage == 1:
        return stack(x, row(w1, w2))
    h = matrix(v.hidden, title="Hidden = tanh of it", name="h", tensor="ffn", columns=hidden, limit=1)
    if stage == FORWARD:
        sums = matrix(v.sums, title="Inputs × W1", name="sums", tensor="ffn", columns=hidden, limit=1.5, product=("x", "w1"))
        logits = matrix(v.logits, title="Logits = hidden × W2", name="logits", tensor="logits", columns=words, limit=1.5, product=("h", "w2"))
        chances = matrix(v.probabilities, title="Softmax", name="p", tensor="logits", columns=words, scale="share")
        return stack(row(x, sign("×"), w1), row(sign("="), sums, sign("→"), h), row(sign("×"), w2), row(sign("="), logits, sign("→"), chances))
    if stage == BACKWARD:
        return _backward_matrices(s, w2, x, names, hidden, words)
    moved = [
        row(matrix(p[w], title=f"{w.upper()} before", name=w, tensor="ffn", limit=1.5), sign(f"− {plain(rate)} ×"),
            matrix(g[w], title="gradient", name="d" + w, tensor="grad", limit=1), sign("="),
            matrix(s.updated[w], title=f"{w.upper()} after", name="new" + w, tensor="ffn", limit=1.5))
        for w in ("w1", "w2", "b1", "b2", "embedding")
    ]  # fmt: skip
    return stack(*moved)


def _backward_matrices(s: Step, w2: Picture, x: Picture, names: list[str], hidden: list[str], words: list[str]) -> Picture:
    v, g = s.values, s.gradients
    target = np.arange(len(words)) == words.index(s.target)
    chances = matrix(v.probabilities, title="Probabilities", name="p", tensor="logits", columns=words, scale="share")
    wanted = matrix(target.astype(float), title="Target", name="y", tensor="logits", columns=words, scale="share")
    logits = matrix(g["logits"], title="∂ logits", name="dz", tensor="grad", columns=words, limit=1)
    column = matrix(v.hidden[:, None], title="hidden, upright", name="ht", tensor="ffn", rows=hidden, limit=1)
    upright = matrix(v.inputs[:, None], title="inputs, upright", name="xt", tensor="resid", rows=names, limit=2)
    of_w2 = matrix(g["w2"], title="∂ W2 = hidden, upright × ∂ logits", name="dw2", tensor="grad", rows=hidden, columns=words, limit=1, product=("ht", "dz"))
    of_h = matrix(g["hidden"], title="∂ hidden = ∂ logits × W2 turned", name="dh", tensor="grad", columns=hidden, limit=1, product=("dz", "w2.T"))
    of_sums = matrix(g["sums"], title="times 1 − hidden²", name="ds", tensor="grad", columns=hidden, limit=1)
    of_w1 = matrix(g["w1"], title="∂ W1 = inputs, upright × that", name="dw1", tensor="grad", rows=names, columns=hidden, limit=1, product=("xt", "ds"))
    return stack(row(chances, sign("−"), wanted, sign("="), logits), row(column, of_w2), row(w2, of_h, sign("→"), of_sums), row(upright, of_w1))


def _step_sentence(before: Step, after: Step, stage: int, rate: float) -> str:
    chance = before.values.probabilities[VOCABULARY.index(before.target)]
    word = f"{{{{word:{before.target}|{before.target}}}}}"
    if stage == 1:
        return f"The text goes on with “{word}”. That is the target; the network has not yet computed anything."
    if stage == FORWARD:
        return f"The network gives “{word}” a probability of {chance:.1%}, so the loss is −ln {plain(chance)} = {plain(before.loss_before)}."
    if stage == BACKWARD:
        largest = max(before.links, key=lambda link: abs(link.gradient))
        return (
            f"Only “{word}” has a negative gradient: raising its logit lowers the loss. Of the 30 weights, {largest.name} "
            f"matters most here: ∂loss/∂{largest.name} = {plain(largest.gradient)}."
        )
    now = after.values.probabilities[VOCABULARY.index(before.target)]
    return (
        f"With learning rate {plain(rate)} all 45 parameters moved, and the loss went from {plain(before.loss_before)} to "
        f"{plain(before.loss_after)}: “{word}” now gets {now:.1%} instead of {chance:.1%}."
    )


def _step_formula(s: Step, stage: int, rate: float) -> str:
    at, chance = VOCABULARY.index(s.target), s.values.probabilities[VOCABULARY.index(s.target)]
    if stage == 1:
        return rf"y = ({', '.join(str(int(i == at)) for i in range(len(VOCABULARY)))})"
    if stage == FORWARD:
        return rf"L = -\ln \logits{{p_{{\text{{{s.target}}}}}}} = -\ln \logits{{{number(chance)}}} = {number(s.loss_before)}"
    largest = max((link for link in s.links if link.name.startswith("w1")), key=lambda link: abs(link.gradient))
    i, j = int(largest.source[1:]), int(largest.target[1:])
    name = rf"w_{{{i},{j}}}"
    if stage == UPDATE:
        return rf"{name} \leftarrow {name} - \eta \, \grad{{\frac{{\partial L}}{{\partial {name}}}}} = {number(largest.weight)} - {number(rate)} \cdot \grad{{({number(largest.gradient)})}} = {number(s.updated['w1'][i, j])}"
    h = s.values.hidden[j]
    return (
        rf"\grad{{\frac{{\partial L}}{{\partial {name}}}}} = \frac{{\partial L}}{{\partial h_{j}}} \cdot \frac{{\partial h_{j}}}{{\partial s_{j}}} \cdot "
        rf"\frac{{\partial s_{j}}}{{\partial {name}}} = \grad{{({number(s.gradients['hidden'][j])})}} \cdot \ffn{{(1 - {number(abs(h))}^2)}} \cdot \resid{{({number(s.values.inputs[i])})}} = \grad{{{number(largest.gradient)}}}"
    )


# --- again and again -----------------------------------------------------------------------------------------------

STEPS = 60


def _continuations(held: int) -> list[str]:
    """What follows “three, two, one” in four texts: in `held` of them the countdown starts over."""
    return ["liftoff"] * (4 - held) + ["three"] * held


@chapter.lab(
    "repeat",
    title="Repeat, and watch the loss",
    controls=[
        Slider("steps", "Steps taken", 20, 0, STEPS),
        Slider("rate", "Learning rate", 0.5, 0.01, 10.0, 0.01),
        Slider("held", "Texts of 4 in which the countdown starts over", 1, 0, 3),
        SEED,
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
        Preset("About right", {"rate": 0.5, "steps": 60, "held": 1}, "The loss falls at every step and settles on the floor."),
        Preset("Too small", {"rate": 0.02, "steps": 60, "held": 1}, "Right direction, but 60 steps are not nearly enough."),
        Preset("Too large", {"rate": 8.0, "steps": 60, "held": 1}, "Each step jumps over the valley; the loss bounces and never settles."),
        Preset("At the edge", {"rate": 2.0, "steps": 60, "held": 1, "seed": 1}, "It still comes down, but not in a straight line."),
        Preset("One answer only", {"rate": 8.0, "steps": 60, "held": 0}, "With nothing that contradicts, hardly any rate is too large."),
    ],
    height=420,
)  # fmt: skip
def repeat(steps: int, rate: float, held: int, seed: int) -> tuple[Any, ...]:
    run = tiny_training.descend(tiny_network.tiny_network(seed), _continuations(held), STEPS, rate)
    times, now = np.arange(STEPS + 1), run.losses[steps]
    picture = row(
        curve([("loss", times, run.losses), ("floor: the entropy of the four texts", times, np.full(STEPS + 1, run.floor))],
              title="Loss after each step", x_label="steps", y_label="loss, nats", tensors=["logits", "grad"], marker=(steps, now)),
        stack(
            bars(list(VOCABULARY), run.probabilities[steps], title=f"Guess after {steps} steps", tensor="logits", limit=1, share=True,
                 notes=[f"{np.mean([w == word for w in _continuations(held)]):.0%} in the texts" for word in VOCABULARY]),
            readouts([("loss", plain(now)), ("floor", plain(run.floor)), ("length of the gradient", plain(run.gradient_norms[steps]))]),
        ),
    )  # fmt: skip
    rising = int(np.sum(np.diff(run.losses) > 0))
    ending = f"Of {STEPS} steps {rising} made it worse" if rising else f"Every one of the {STEPS} steps lowers it"
    sentence = (
        f"After {steps} steps the loss is {plain(now)}, {plain(now - run.floor)} above the {plain(run.floor)} that no network can beat. "
        f"{ending}; at the end it stands at {plain(run.losses[-1])}."
    )
    formula = rf"\theta \leftarrow \theta - \eta \, \grad{{\nabla L}}, \qquad \eta = {number(rate)}, \quad \lVert \grad{{\nabla L}} \rVert = \grad{{{number(run.gradient_norms[steps])}}}"
    return picture, sentence, formula, {"losses": run.losses, "probabilities": run.probabilities, "floor": run.floor}


# --- gradient check ------------------------------------------------------------------------------------------------

EXPONENTS = np.arange(-13.0, 0.1)
GROUPS = {"worst": "the ten that agree least", "embedding": "embedding", "w1": "W1", "b1": "b1", "w2": "W2", "b2": "b2"}


@lru_cache(maxsize=64)
def _sweep(seed: int, target: str) -> np.ndarray:
    return engine.worst_errors(
        lambda parameters: tiny_network.loss_of(parameters, target=target),
        (tiny_network.tiny_network(seed),),
        [10.0**exponent for exponent in EXPONENTS],
    )


@chapter.lab(
    "check",
    title="Is the gradient right? Ask a second way",
    controls=[
        Slider("exponent", "Step eps, as a power of ten", -5.0, -13.0, 0.0, 0.5),
        Choice("group", "Parameters to list", "worst", GROUPS),
        TARGET,
        SEED,
    ],
    runs=[engine.gradient_check, engine.worst_errors, tiny_network.loss_of],
    snippet="""
        from engine.backpropagation import gradient_check
        from engine.tiny_network import loss_of, tiny_network

        check = gradient_check(lambda parameters: loss_of(parameters, target={target!r}), (tiny_network({seed}),), eps=10**{exponent})
        analytic = [row.analytic for row in check.rows]
        numeric = [row.numeric for row in check.rows]
        worst = check.worst
        print(worst)
    """,
    provenance="Random weights; both derivatives computed live in float64",
    presets=[
        Preset("Best", {"exponent": -5}, "About nine digits agree, and no choice of eps gives many more."),
        Preset("Too coarse", {"exponent": -1}, "The loss is a curve, and a long chord is not its slope."),
        Preset("Too fine", {"exponent": -12}, "The two losses agree in nearly all digits, and little is left of their difference."),
    ],
    height=460,
)  # fmt: skip
def check(exponent: float, group: str, target: str, seed: int) -> tuple[Any, ...]:
    parameters, eps = tiny_network.tiny_network(seed), 10**exponent
    found = engine.gradient_check(lambda p: tiny_network.loss_of(p, target=target), (parameters,), eps)
    rows = [(f"{r.name.partition('.')[2]}[{', '.join(map(str, r.index))}]", r) for r in found.rows]
    by_error = sorted(rows, key=lambda named: -named[1].relative_error)
    listed = by_error[:10] if group == "worst" else [named for named in rows if named[0].startswith(group + "[")]
    picture = row(
        curve([("worst of all 45", 10.0**EXPONENTS, np.maximum(_sweep(seed, target), 1e-16))], title="Largest relative error against eps",
              x_label="eps", y_label="relative error", tensors=["grad"], marker=(eps, max(found.worst, 1e-16)), log_x=True, log_y=True, points=True),
        table(["parameter", "backpropagation", "central difference", "relative error"],
              [[name, r.analytic, r.numeric, r.relative_error] for name, r in listed], title=f"45 parameters: {GROUPS[group]}"),
    )  # fmt: skip
    name, r = by_error[0]
    side = "the step is so long that the curve bends away from the chord" if exponent > -4.5 else "both ways agree" if exponent > -6.5 else "rounding eats the difference of the two losses"  # fmt: skip
    sentence = (
        f"With eps = {plain(eps)} the worst of 45 parameters is {name}: {plain(r.analytic)} by backpropagation and {plain(r.numeric)} by "
        f"difference, a relative error of {plain(found.worst)}. Here {side}."
    )
    return picture, sentence, _difference_formula(r, eps), {
        "analytic": [r.analytic for r in found.rows],
        "numeric": [r.numeric for r in found.rows],
        "worst": found.worst,
    }  # fmt: skip


def _difference_formula(r: engine.GradientRow, eps: float) -> str:
    return (
        rf"\frac{{L(\theta + \varepsilon) - L(\theta - \varepsilon)}}{{2 \varepsilon}} = {number(r.numeric, 8)}, \qquad "
        rf"\grad{{\frac{{\partial L}}{{\partial \theta}}}} = \grad{{{number(r.analytic, 8)}}}, \qquad \varepsilon = {number(eps)}"
    )


# --- the reader's own expression -------------------------------------------------------------------------------------

NAMES = "abcd"


@chapter.lab(
    "graph",
    title="Any expression of yours, differentiated",
    controls=[
        Text("expression", "Expression of a, b, c, d: + − * / ** brackets, exp log tanh sin cos sqrt relu sigmoid", "(a*b + c)**2", limit=200, rows=1),
        Slider("a", "a", 2.0, -10.0, 10.0, 0.1),
        Slider("b", "b", -3.0, -10.0, 10.0, 0.1),
        Slider("c", "c", 8.0, -10.0, 10.0, 0.1),
        Slider("d", "d", 1.0, -10.0, 10.0, 0.1),
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
        Preset("A product", {"expression": "a * b", "a": 2, "b": -3}, "Each factor's derivative is the other factor."),
        Preset("A chain", {"expression": "tanh(a*b + c)", "a": 0.5, "b": 2, "c": -0.7}, "A neuron. Along the path the local derivatives multiply."),
        Preset("Used twice", {"expression": "a*a + a*b", "a": 3, "b": 2}, "Three lines leave a; what comes back along them adds up."),
        Preset("Saturated", {"expression": "sigmoid(a*b)", "a": 3, "b": 3}, "A flat part of the curve: almost nothing comes back. Gradients vanish like this."),
        Preset("Nearly by zero", {"expression": "a / b", "a": 1, "b": 0.1}, "A tiny change of b changes a lot: gradients explode like this."),
        Preset("Switched off", {"expression": "relu(a*b + c) * d", "a": 2, "b": -3, "c": 1, "d": 4}, "Below zero relu is flat: nothing before it learns."),
        Preset("A loss", {"expression": "log(exp(a) + exp(b) + exp(c)) - c", "a": 1, "b": 0, "c": 2}, "Cross entropy of three logits: the gradients are the probabilities, minus 1 for c."),
    ],
    height=380,
)  # fmt: skip
def graph(expression: str, a: float, b: float, c: float, d: float) -> tuple[Any, ...]:
    parsed = parse(expression)
    if unknown := [name for name in parsed.names if name not in NAMES]:
        raise ReaderError(f"There are sliders for a, b, c and d only; the expression also uses {', '.join(unknown)}.")
    found = expression_graph(parsed, {"a": a, "b": b, "c": c, "d": d})
    picture = _graph_picture(found)
    inputs = [node for node in found.nodes if not node.operation]
    parts = ", ".join(f"{{{{node:{n.index}|{n.name}: {plain(n.gradient)}}}}}" for n in inputs)
    sentence = f"The value is {plain(found.value)}. Its gradient by each name: {parts}. {_reading_of(found, inputs)}"
    formula = r",\quad ".join(rf"\grad{{\frac{{\partial f}}{{\partial {n.name}}}}} = {_paths(found, n)}" for n in inputs)
    nodes = found.nodes
    return picture, sentence, formula, {
        "values": [float(n.value) for n in nodes],
        "gradients": [float(n.gradient) for n in nodes],
        "names": [n.name for n in nodes],
    }  # fmt: skip


def _reading_of(found: engine.Graph, inputs: list[engine.Node]) -> str:
    strongest = max(inputs, key=lambda n: abs(float(n.gradient)))
    size = float(strongest.gradient)
    if abs(size) < 1e-3:
        return "All of them are nearly zero: the value hardly depends on any name here."
    more = "grows" if size > 0 else "falls"
    return f"If {strongest.name} grew by 0.01, the value would {more.replace('grows', 'grow').replace('falls', 'fall')} by about {plain(abs(size) / 100)}."


def _paths(found: engine.Graph, node: engine.Node) -> str:
    """The sum of what came back along each use of a name, in numbers."""
    passed = [float(edge.passed) for edge in found.edges if edge.source == node.index]
    if len(passed) < 2:
        return rf"\grad{{{number(float(node.gradient))}}}"
    return " + ".join(f"({number(part)})" if part < 0 else number(part) for part in passed) + rf" = \grad{{{number(float(node.gradient))}}}"


def _graph_picture(found: engine.Graph) -> Picture:
    place = layered(len(found.nodes), [(edge.source, edge.target) for edge in found.edges])
    nodes = [
        {
            "id": n.index, "label": n.operation and f"{n.name} = {n.operation}" or n.name, "value": float(n.value), "grad": float(n.gradient),
            "column": place.columns[n.index], "row": place.rows[n.index], "tensor": "ffn" if n.operation else "resid",
            "state": "" if n.operation else "input", "note": _graph_node_note(found, n), "key": f"node:{n.index}",
        }
        for n in found.nodes
    ]  # fmt: skip
    edges = [
        {
            "from": e.source, "to": e.target, "value": float(e.local), "text": f"× {_brief(float(e.local))}", "via": bends,
            "note": _graph_edge_note(found, e),
        }
        for e, bends in zip(found.edges, place.bends, strict=True)
    ]  # fmt: skip
    return network(nodes, edges, title="Values above, gradients (∂) below; on each line the local derivative", gap=(150, 88))


def _graph_node_note(found: engine.Graph, node: engine.Node) -> str:
    made = f"{node.name} = {node.operation} = {node.numbers} = {plain(node.value)}" if node.operation else f"{node.name} = {plain(node.value)}, from its slider"
    parts = [plain(edge.passed) for edge in found.edges if edge.source == node.index]
    if not parts:
        return f"{made}; the result: its gradient by itself is 1"
    total = f" = {plain(node.gradient)}" if len(parts) > 1 else ""
    return f"{made}; gradient {' + '.join(f'({part})' if part.startswith('−') else part for part in parts)}{total}"


def _graph_edge_note(found: engine.Graph, edge: engine.Edge) -> str:
    source, target = found.nodes[edge.source], found.nodes[edge.target]
    rule = f" = {edge.formula}" if edge.formula and edge.formula != plain(edge.local) else ""
    return (
        f"∂{target.name}/∂{source.name}{rule} = {plain(edge.local)}; times the gradient of {target.name}, {plain(target.gradient)}, "
        f"passes {plain(edge.passed)} back to {source.name}"
    )


# --- in the real model -----------------------------------------------------------------------------------------------

LIMIT = 32


@chapter.lab(
    "tokens",
    title="Which tokens move the prediction",
    controls=[
        Pick("token", "Token whose surprisal is asked about", -1),
        Slider("nudge", "Size of a step against the gradient, % of the input's length", 0.3, 0.0, 5.0, 0.1),
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
    provenance="SmolLM2-135M's own weights; gradient through all 30 blocks, computed live",
    presets=[
        Preset("The whole sentence", {"token": -1}, "The mean loss of all guesses."),
        Preset("A step that holds", {"nudge": 0.1}, "So short a step does what the slope promised."),
        Preset("A step too far", {"nudge": 5}, "The promise of the slope is worth nothing out there: the loss rises."),
    ],
    real=True,
    height=620,
)
def tokens_that_matter(token: int, nudge: float, sentence: str) -> tuple[Any, ...]:
    reading = read(sentence, limit=LIMIT, least=2)
    target = _asked(token, reading)
    found = saliency.token_saliency(reading.model, reading.ids, target)
    moved = saliency.nudge(reading.model, reading.ids, nudge / 100, target)
    names = [f"{i} {piece}" for i, piece in enumerate(reading.pieces)]
    chips = [{"text": piece, "note": str(i)} for i, piece in enumerate(reading.pieces)]
    keys = [f"token:{i}" for i in range(len(names))]
    picture = stack(
        tokens(chips, title="Click a token to ask about its surprisal alone; the darker, the longer the gradient", pick="token", picked=target, shares=found.norms),
        row(bars(names, found.norms, title="Length of the gradient, nats per unit", tensor="grad", keys=keys, marked=[] if target is None else [target]),
            bars(names, found.times_input, title="Gradient × input, nats", tensor="resid", keys=keys, marked=[] if target is None else [target])),
        readouts([("loss asked about", f"{found.loss:.4f} nats"), ("step", f"{nudge:g} %"), ("change promised by the slope", f"{moved.promised:+.4f}".replace("-", "−")),
                  ("change when computed", f"{moved.computed:+.4f}".replace("-", "−"))]),
    )  # fmt: skip
    data = {
        "norms": found.norms, "times_input": found.times_input, "loss": found.loss, "promised": moved.promised, "computed": moved.computed,
        "tokens": list(reading.pieces), "gradient": found.gradient,
    }  # fmt: skip
    return picture, reading.note + _tokens_sentence(reading, found, token, target), _tokens_formula(found, target), data


def _asked(token: int, reading: Reading) -> int | None:
    """The position asked about; None for the whole sentence (also for the first token, which is never guessed)."""
    return token if 0 < token < len(reading.ids) else None


def _tokens_sentence(reading: Reading, found: saliency.Saliency, token: int, target: int | None) -> str:
    top = int(np.argmax(found.norms))
    strongest = f"“{reading.pieces[top]}” moves it most, with a gradient of length {{{{token:{top}|{plain(found.norms[top])}}}}}"
    if target is None:
        first = "The first token is never guessed, so this is the whole sentence. " if token == 0 else ""
        silent = int(np.sum(found.norms == 0))
        return f"{first}The mean loss is {plain(found.loss)} nats. {strongest}. The last token has {'no gradient: nothing is predicted from it' if silent == 1 else 'no gradient'}."
    later = len(reading.ids) - target - 1
    after = f"It and the {later} after it have gradient exactly 0: the mask let nothing of them through." if later else "It has no gradient itself: it was hidden when it was guessed."
    return f"The surprisal of “{reading.pieces[target]}” is {plain(found.loss)} nats. {strongest}. {after}"


def _tokens_formula(found: saliency.Saliency, target: int | None) -> str:
    loss = "L" if target is None else rf"L_{{{target}}}"
    top = int(np.argmax(found.norms))
    return (
        rf"\left\lVert \grad{{\frac{{\partial {loss}}}{{\partial \resid{{x_{{{top}}}}}}}}} \right\rVert = \sqrt{{\sum_{{i=1}}^{{{found.gradient.shape[1]}}} "
        rf"\left(\grad{{\frac{{\partial {loss}}}{{\partial x_{{{top},i}}}}}}\right)^2}} = \grad{{{number(found.norms[top])}}}"
    )


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
    return plain(tiny_training.floor_of(_continuations(1)))


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
def gradients_after(token: int, nudge: float, sentence: str) -> int:
    reading = read(sentence, limit=LIMIT, least=2)
    target = _asked(token, reading) or (len(reading.ids) + 1) // 2
    return int(np.count_nonzero(saliency.token_saliency(reading.model, reading.ids, target).norms[target:]))


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
