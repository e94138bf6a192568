"""The tiny network that counts down, drawn: as a network, and as matrices, at each of the four stages of a step."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.formulas import number as plain
from engine.tiny_network import PROMPT, VOCABULARY, WIDTH, Link, Step, Unit
from ui.figures import Picture, bars, matrix, network, readouts, row, sign, stack
from ui.mathml import number

TARGET, FORWARD, BACKWARD, UPDATE = 1, 2, 3, 4
UNKNOWN = "—"

INPUTS = [f"{word}[{i}]" for word in PROMPT for i in range(WIDTH)]
HIDDEN = ["h0", "h1", "h2"]
WORDS = list(VOCABULARY)


def brief(value: float) -> str:
    """Three significant digits with a true minus sign, for labels on lines."""
    return f"{value:.3g}".replace("-", "−")


def bracketed(value: float) -> str:
    """A factor as it stands in a product: negative numbers in brackets."""
    return f"({plain(value)})" if value < 0 else plain(value)


def guess(before: Step, after: Step, stage: int) -> Picture:
    """The four probabilities, as far as this stage knows them."""
    values = after.values if stage == UPDATE else before.values
    return bars(
        WORDS,
        values.probabilities if stage >= FORWARD else np.full(len(WORDS), np.nan),
        title="Guess for the word after “three, two, one”" + (", after the update" if stage == UPDATE else ""),
        tensor="logits",
        limit=1,
        share=True,
        notes=[f"was {p:.1%}" for p in before.values.probabilities] if stage == UPDATE else [],
        keys=[f"word:{word}" for word in WORDS],
        marked=[WORDS.index(before.target)],
    )


def losses(before: Step, stage: int) -> Picture:
    return readouts(
        [
            ("target", before.target),
            ("loss before", plain(before.loss_before) if stage >= FORWARD else UNKNOWN),
            ("loss after", plain(before.loss_after) if stage == UPDATE else UNKNOWN),
        ]
    )


# --- as a network --------------------------------------------------------------------------------------------------


def as_network(before: Step, after: Step, stage: int, rate: float) -> Picture:
    """Six inputs, three hidden neurons, four logits and the loss; a line for each weight."""
    shown = after if stage == UPDATE else before
    edges = [_edge(link, new, before, stage, rate) for link, new in zip(before.links, after.links, strict=True)]
    return network(
        [*(_node(unit, before, shown, stage) for unit in shown.units), _loss_node(shown, stage)],
        edges + [_edge_into_loss(unit, before, stage) for unit in before.units if unit.layer == 2],
        title="Each line is a weight, as thick as it is large; broken lines are negative",
        columns=["embeddings", "hidden, tanh", "logits"],
        gap=(205, 84),
        edge_values=True,
    )


def _node(unit: Unit, before: Step, shown: Step, stage: int) -> dict[str, Any]:
    place, known = int(unit.name[1:]), stage >= FORWARD or unit.layer == 0
    node = {
        "id": unit.name,
        "label": unit.label,
        "column": unit.layer,
        "row": (float(place), 0.5 + 2 * place, 0.25 + 1.5 * place)[unit.layer],
        "tensor": ("resid", "ffn", "logits")[unit.layer],
        "key": f"word:{unit.label}" if unit.layer == 2 else unit.name,
        "note": _value_note(unit, place, shown) if known else f"{unit.label}: not computed yet",
        "state": "wanted" if unit.layer == 2 and unit.label == before.target else "",
    }
    node |= {"value": unit.value} if known else {}
    if stage == BACKWARD:
        node |= {"grad": unit.gradient, "note": _gradient_note(unit, place, before)}
    return node


def _value_note(unit: Unit, place: int, shown: Step) -> str:
    value = plain(unit.value)
    if unit.layer == 0:
        return f"{unit.label} = {value}: a number of this word's row in the embedding table"
    if unit.layer == 1:
        bias = plain(shown.parameters["b1"][place])
        made = f"tanh({plain(shown.values.sums[place])})"
        return f"{unit.label} = {made} = {value}: the six inputs times their weights, plus the bias {bias}, bent"
    bias = plain(shown.parameters["b2"][place])
    return f"logit of “{unit.label}” = {value}: the three hidden values times their weights, plus the bias {bias}"


def _gradient_note(unit: Unit, place: int, before: Step) -> str:
    gradient = f"∂loss/∂({unit.label}) = {unit.formula} = {plain(unit.gradient)}"
    if unit.layer == 2:
        target = "1, for it is the target" if unit.label == before.target else "0, for it is not the target"
        return f"{gradient}: the probability minus {target}"
    if unit.layer == 0:
        return f"{gradient}: what comes back along its three lines, each times its weight"
    bent = plain(before.gradients["sums"][place])
    return f"{gradient}; through tanh, times 1 − {plain(abs(unit.value))}², it is {bent}, the gradient of the bias too"


def _loss_node(shown: Step, stage: int) -> dict[str, Any]:
    node = {
        "id": "loss",
        "label": "loss",
        "column": 3,
        "row": 2.5,
        "tensor": "logits",
        "note": "loss: not computed yet",
    }
    if stage < FORWARD:
        return node
    chance = plain(shown.values.probabilities[WORDS.index(shown.target)])
    node |= {"value": shown.loss_before, "note": f"loss = −ln {chance} = {plain(shown.loss_before)}"}
    if stage == BACKWARD:
        node |= {"grad": 1.0, "note": f"{node['note']}; its gradient by itself is 1, and everything starts from there"}
    return node


def _edge(link: Link, new: Link, before: Step, stage: int, rate: float) -> dict[str, Any]:
    note = f"weight {link.name} = {plain(link.weight)}"
    edge = {"from": link.source, "to": link.target, "value": link.weight, "note": note}
    if stage == BACKWARD:
        values = before.values.inputs if link.name.startswith("w1") else before.values.hidden
        used = plain(values[int(link.source[1:])])
        gradient = f"∂loss/∂{link.name} = {link.formula} = {plain(link.gradient)}"
        note += f"; the sum it feeds grows with it by {used}, the value it multiplies: {gradient}"
        edge |= {"grad": link.gradient, "note": note}
    if stage == UPDATE:
        moved = f"{plain(link.weight)} − {plain(rate)} · {bracketed(link.gradient)} = {plain(new.weight)}"
        label = f"{brief(link.weight)} → {brief(new.weight)}"
        edge |= {"value": new.weight, "text": label, "note": f"weight {link.name}: {moved}"}
    return edge


def _edge_into_loss(unit: Unit, before: Step, stage: int) -> dict[str, Any]:
    edge = {"from": unit.name, "to": "loss", "note": f"the logit of “{unit.label}” enters the loss through the softmax"}
    if stage != BACKWARD:
        return edge
    local = f"∂loss/∂({unit.label}) = {unit.formula} = {plain(unit.gradient)}"
    target = "1 for the target" if unit.label == before.target else "0 for all but the target"
    return edge | {"text": unit.formula, "note": f"local derivative: {local}, the probability minus {target}"}


# --- as matrices ---------------------------------------------------------------------------------------------------


def as_matrices(step: Step, stage: int, rate: float) -> Picture:
    """The same numbers as rows and matrices; hovering a product shows what it is made of."""
    return {TARGET: _given, FORWARD: _forward, BACKWARD: _backward}.get(stage, lambda s: _update(s, rate))(step)


def _inputs(s: Step) -> Picture:
    title = "Inputs: three embeddings, end to end"
    return matrix(s.values.inputs, title=title, name="x", tensor="resid", columns=INPUTS, limit=2)


def _weights(s: Step, name: str) -> Picture:
    rows, columns = (INPUTS, HIDDEN) if name == "w1" else (HIDDEN, WORDS)
    values = s.parameters[name]
    return matrix(values, title=name.upper(), name=name, tensor="ffn", rows=rows, columns=columns, limit=1.5)


def _row(values: Any, title: str, name: str, tensor: str, columns: list[str], **more: Any) -> Picture:
    return matrix(values, title=title, name=name, tensor=tensor, columns=columns, **{"limit": 1.5, **more})


def _given(s: Step) -> Picture:
    return stack(_inputs(s), row(_weights(s, "w1"), _weights(s, "w2")))


def _forward(s: Step) -> Picture:
    v = s.values
    return stack(
        row(_inputs(s), sign("×"), _weights(s, "w1")),
        row(
            sign("="),
            _row(v.sums, "Inputs × W1 (all biases are 0 here)", "sums", "ffn", HIDDEN, product=("x", "w1")),
            sign("→"),
            _row(v.hidden, "Hidden = tanh of it", "h", "ffn", HIDDEN, limit=1),
        ),
        row(sign("×"), _weights(s, "w2")),
        row(
            sign("="),
            _row(v.logits, "Logits = hidden × W2", "z", "logits", WORDS, product=("h", "w2")),
            sign("→"),
            _row(v.probabilities, "Softmax", "p", "logits", WORDS, scale="share", limit=1),
        ),
    )


def _backward(s: Step) -> Picture:
    v, g = s.values, s.gradients
    wanted = [float(word == s.target) for word in WORDS]
    hidden, inputs = v.hidden[:, None], v.inputs[:, None]
    return stack(
        row(
            _row(v.probabilities, "Probabilities", "p", "logits", WORDS, scale="share", limit=1),
            sign("−"),
            _row(wanted, "Target", "y", "logits", WORDS, scale="share", limit=1),
            sign("="),
            _row(g["logits"], "∂ logits", "dz", "grad", WORDS, limit=1),
        ),
        row(
            matrix(hidden, title="Hidden, upright", name="ht", tensor="ffn", rows=HIDDEN, limit=1),
            sign("×  ∂ logits  ="),
            _row(g["w2"], "∂ W2", "dw2", "grad", WORDS, rows=HIDDEN, limit=1, product=("ht", "dz")),
        ),
        row(
            _weights(s, "w2"),
            sign("→"),
            _row(g["hidden"], "∂ hidden = ∂ logits × W2 turned", "dh", "grad", HIDDEN, limit=1, product=("dz", "w2.T")),
            sign("→"),
            _row(g["sums"], "∂ sums: times 1 − hidden²", "ds", "grad", HIDDEN, limit=1),
        ),
        row(
            matrix(inputs, title="Inputs, upright", name="xt", tensor="resid", rows=INPUTS, limit=2),
            sign("×  ∂ sums  ="),
            _row(g["w1"], "∂ W1", "dw1", "grad", HIDDEN, rows=INPUTS, limit=1, product=("xt", "ds")),
        ),
    )


def _update(s: Step, rate: float) -> Picture:
    def line(name: str, title: str) -> Picture:
        return row(
            matrix(s.parameters[name], title=f"{title} before", name=name, tensor="ffn", limit=1.5, digits=3),
            sign(f"− {plain(rate)} ×"),
            matrix(s.gradients[name], title="gradient", name="d" + name, tensor="grad", limit=1, digits=3),
            sign("="),
            matrix(s.updated[name], title=f"{title} after", name="new" + name, tensor="ffn", limit=1.5, digits=3),
        )

    names = {"w1": "W1", "w2": "W2", "b1": "Biases 1", "b2": "Biases 2", "embedding": "Embedding table"}
    return stack(*(line(name, title) for name, title in names.items()))


# --- in words and as a formula -------------------------------------------------------------------------------------


def sentence(before: Step, after: Step, stage: int, rate: float) -> str:
    at, word = WORDS.index(before.target), f"{{{{word:{before.target}|{before.target}}}}}"
    chance, loss = before.values.probabilities[at], plain(before.loss_before)
    if stage == TARGET:
        return f"The text goes on with “{word}”. That is the target; the network has not computed anything yet."
    if stage == FORWARD:
        return f"The network gives “{word}” a probability of {chance:.1%}, so the loss is −ln {plain(chance)} = {loss}."
    if stage == BACKWARD:
        largest = max(before.links, key=lambda link: abs(link.gradient))
        return (
            f"Only “{word}” has a negative gradient among the logits: raising it lowers the loss. Of the 30 weights, "
            f"{largest.name} matters most here, with a slope of {plain(largest.gradient)}."
        )
    return (
        f"With learning rate {plain(rate)} the loss went from {loss} to {plain(before.loss_after)}: “{word}” now gets "
        f"{after.values.probabilities[at]:.1%} instead of {chance:.1%}."
    )


def formula(s: Step, stage: int, rate: float) -> str:
    at = WORDS.index(s.target)
    if stage == TARGET:
        return rf"y = ({', '.join(str(int(i == at)) for i in range(len(WORDS)))})"
    if stage == FORWARD:
        chance = number(s.values.probabilities[at])
        name = rf"\logits{{p_{{\text{{{s.target}}}}}}}"
        return rf"L = -\ln {name} = -\ln \logits{{{chance}}} = {number(s.loss_before)}"
    first = [link for link in s.links if link.name.startswith("w1")]
    largest = max(first, key=lambda link: abs(link.gradient))
    return (_chain if stage == BACKWARD else _descent)(s, largest, rate)


def _chain(s: Step, link: Link, rate: float) -> str:
    """The gradient of one weight of the first layer: three local derivatives along the way."""
    i, j = int(link.source[1:]), int(link.target[1:])
    w, h = rf"w_{{{i},{j}}}", plain(abs(s.values.hidden[j]))
    names = rf"\frac{{\partial L}}{{\partial h_{j}}} \cdot \frac{{\partial h_{j}}}{{\partial s_{j}}}"
    names += rf" \cdot \frac{{\partial s_{j}}}{{\partial {w}}}"
    numbers = rf"\grad{{({number(s.gradients['hidden'][j])})}} \cdot \ffn{{(1 - {h}^2)}}"
    numbers += rf" \cdot \resid{{({number(s.values.inputs[i])})}}"
    return rf"\grad{{\frac{{\partial L}}{{\partial {w}}}}} = {names} = {numbers} = \grad{{{number(link.gradient)}}}"


def _descent(s: Step, link: Link, rate: float) -> str:
    i, j = int(link.source[1:]), int(link.target[1:])
    w = rf"w_{{{i},{j}}}"
    moved = rf"{number(link.weight)} - {number(rate)} \cdot \grad{{({number(link.gradient)})}}"
    new = number(s.updated["w1"][i, j])
    return rf"{w} \leftarrow {w} - \eta \, \grad{{\frac{{\partial L}}{{\partial {w}}}}} = {moved} = {new}"
