"""Pictures, sentences and formulas of the labs about single neurons, apart from what the labs compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine import curve_fit as fits
from engine import curve_training as learning
from engine import gates
from engine import linear_layers as linear
from engine import neuron as engine
from ui.figures import Picture, curve, matrix, network, readouts, row, sign, stack, table
from ui.mathml import number, signed, superscript

FORMS = {
    "linear": "linear",
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "gelu": "GELU (exact)",
    "gelu_tanh": "GELU (tanh form)",
    "silu": "SiLU",
}


def short(value: Any, digits: int = 4) -> str:
    """A number inside a sentence: four digits, a real minus sign, powers of ten written out."""
    mantissa, _, exponent = f"{float(value) + 0.0:.{digits}g}".partition("e")
    power = f" · 10{superscript(int(exponent))}" if exponent else ""
    return mantissa.replace("-", "−") + power


# --- one neuron


def drawn(found: engine.Neuron, x: np.ndarray, w: np.ndarray, bias: float, form: str) -> Picture:
    nodes = [
        {"id": f"x{i}", "label": f"x{'₁₂₃'[i]}", "value": x[i], "column": 0, "row": i, "tensor": "resid",
         "key": f"x{i}", "note": f"Input x{'₁₂₃'[i]} = {short(x[i])}"}
        for i in range(3)
    ]  # fmt: skip
    nodes += [
        {"id": "b", "label": "bias", "value": bias, "column": 0, "row": 3, "tensor": "resid", "state": "input",
         "note": f"The bias adds {short(bias)} whatever the inputs are"},
        {"id": "z", "label": "sum z", "value": float(found.total), "column": 1, "row": 1.5, "tensor": "ffn",
         "key": "z", "note": f"Sum of the three products and the bias: {short(found.total)}"},
        {"id": "out", "label": "output", "value": float(found.output), "column": 2, "row": 1.5, "tensor": "ffn",
         "key": "out", "state": "wanted", "note": f"{FORMS[form]} of {short(found.total)} = {short(found.output)}"},
    ]  # fmt: skip
    edges: list[dict[str, Any]] = [
        {"from": f"x{i}", "to": "z", "value": w[i], "text": short(w[i]), "key": f"x{i}",
         "note": f"{short(x[i])} times weight {short(w[i])} = {short(found.products[i])}"}
        for i in range(3)
    ]  # fmt: skip
    edges += [{"from": "b", "to": "z", "value": 1.0}]
    edges += [{"from": "z", "to": "out", "value": float(found.slope), "text": "bend",
               "note": f"The activation. Its slope here is {short(found.slope)}"}]  # fmt: skip
    return network(nodes, edges, title="The neuron", columns=["inputs", "weighted sum", "activation"], gap=(95, 62))


def weights(found: engine.Neuron, x: np.ndarray, w: np.ndarray) -> Picture:
    rows = [
        [f"{i + 1}", float(x[i]), float(w[i]), float(found.products[i]), float(found.by_weight[i])] for i in range(3)
    ]
    columns = ["", "input", "weight", "product", "∂ out / ∂ weight"]
    return table(columns, rows, title="What each input adds, and how its weight moves the output")


def both_curves(form: str, z: float, out: float, steep: float) -> Picture:
    """The activation and its slope, with the neuron's own sum marked on both."""
    wide = max(5.0, np.ceil(abs(z)))
    at = np.linspace(-wide, wide, 161)
    return row(
        curve(
            [(FORMS[form], at, engine.bend(form, at))],
            title=f"{FORMS[form]}: what comes out for each sum z",
            x_label="sum z",
            y_label="output",
            tensors=["ffn"],
            marker=(z, out),
        ),
        curve(
            [("slope", at, engine.slope(form, at))],
            title="Its slope: how much of a nudge gets through",
            x_label="sum z",
            y_label="slope",
            tensors=["grad"],
            marker=(z, steep),
        ),
    )


def neuron_sentence(found: engine.Neuron, form: str, every: Mapping[str, float]) -> str:
    """What came out, and what a weight could change; of GELU always both forms."""
    out, steep = short(found.output), float(found.slope)
    aside = ""
    if form.startswith("gelu"):
        name, other = ("the tanh form", "gelu_tanh") if form == "gelu" else ("the exact form", "gelu")
        out, aside = (f"{value:.4f}".replace("-", "−") for value in (every[form], every[other]))
        aside = f" ({name} gives {aside})"
    told = f"The sum is {{{{z|{short(found.total)}}}}}, and {FORMS[form]} makes {{{{out|{out}}}}} of it{aside}. "
    told += f"The slope there is {short(steep)}: "
    if abs(steep) > 1e-3:
        return f"{told}raise w₁ by 0.01, and the output changes by about {short(0.01 * found.by_weight[0])}."
    return f"{told}whatever you do to a weight, next to nothing happens. From this example the neuron cannot learn."


def neuron_formula(x: np.ndarray, w: np.ndarray, bias: float, form: str, z: float, out: float) -> str:
    terms = " + ".join(rf"({number(a)}) \cdot \resid{{({number(b)})}}" for a, b in zip(w, x, strict=True))
    n = number(z)
    bends = {
        "linear": r"z",
        "relu": rf"\max(0, {n})",
        "leaky_relu": rf"{n}" if z > 0 else rf"0.01 \cdot ({n})",
        "sigmoid": rf"\frac{{1}}{{1 + e^{{{number(-z)}}}}}",
        "tanh": rf"\tanh({n})",
        "gelu": rf"{n} \cdot \Phi({n})",
        "gelu_tanh": rf"\frac{{{n}}}{{2}} \left(1 + \tanh\left(\sqrt{{2 / \pi}} \left({n} {signed(0.044715 * z**3)}"
        r"\right)\right)\right)",
        "silu": rf"{n} \cdot \sigma({n}) = {n} \cdot {number(float(engine.bend('sigmoid', np.array(z))))}",
    }
    total = rf"\ffn{{z}} = {terms} {signed(bias)} = \ffn{{{n}}}"
    return rf"{total}, \qquad {bends[form]} = \ffn{{{number(out, 5)}}}"


# --- two layers, or one


def as_matrices(x: Any, layers: linear.Layers, found: linear.Comparison, form: str, fine: int) -> tuple[Picture, ...]:
    """Three rows: to the sums, on to the output, and the one matrix beside them; `fine` decimals for the weights."""
    hidden, outs, ins = ["h₁", "h₂", "h₃"], ["y₁", "y₂"], ["x₁", "x₂"]
    return (
        row(
            matrix(x, "x", "resid", "x", columns=ins, limit=3, digits=2),
            sign("×"),
            matrix(layers.w1, "W₁", "ffn", "w1", rows=ins, columns=hidden, limit=2, digits=fine),
            sign("+"),
            matrix(layers.b1, "b₁", "ffn", "b1", columns=hidden, limit=2, digits=fine),
            sign("="),
            matrix(found.hidden, "sums", "ffn", "hidden", columns=hidden, limit=6, digits=2 + fine),
        ),
        row(
            matrix(
                found.activated,
                f"after {FORMS[form]}",
                "ffn",
                "activated",
                columns=hidden,
                limit=6,
                digits=2 + fine,
            ),
            sign("×"),
            matrix(layers.w2, "W₂", "ffn", "w2", rows=hidden, columns=outs, limit=2, digits=fine),
            sign("+"),
            matrix(layers.b2, "b₂", "ffn", "b2", columns=outs, limit=2, digits=fine),
            sign("="),
            matrix(found.output, "y: two layers", "logits", "output", columns=outs, limit=10, digits=6),
        ),
        row(
            matrix(
                found.matrix,
                "M = W₁ W₂",
                "attn",
                "matrix",
                rows=ins,
                columns=outs,
                limit=6,
                digits=2 + fine,
                product=("w1", "w2"),
            ),
            matrix(found.bias, "c = b₁ W₂ + b₂", "attn", "bias", columns=outs, limit=6, digits=2 + fine),
            sign("→"),
            matrix(found.collapsed, "x M + c: one matrix", "logits", "collapsed", columns=outs, limit=10, digits=6),
            matrix(found.output - found.collapsed, "y − (x M + c)", "grad", "gap", columns=outs, limit=6),
        ),
    )


def collapse_formula(layers: linear.Layers, found: linear.Comparison) -> str:
    terms = " + ".join(rf"({number(a)})({number(b)})" for a, b in zip(layers.w1[0], layers.w2[:, 0], strict=True))
    first = number(found.matrix[0, 0], 6)
    return rf"\attn{{M_{{11}}}} = \sum_k \ffn{{W_1}}[1,k] \, \ffn{{W_2}}[k,1] = {terms} = \attn{{{first}}}"


def collapse_sentence(form: str, found: linear.Comparison, everywhere: float, count: int) -> str:
    if form == "linear" and everywhere == 0:
        return (
            f"Two layers and one matrix give the same, to the last bit, at all {count} positions of the inputs: the "
            "largest difference is exactly 0. Multiples of ¼ are never rounded here. The second layer was for nothing."
        )
    if form == "linear":
        return (
            f"Equal on paper, here up to rounding: the largest difference over {count} inputs is {short(everywhere)}. "
            "float32 keeps about seven digits, and the two ways round at different places."
        )
    here = "the same" if found.difference == 0 else f"results that differ by {short(found.difference)}"
    why = (
        " All that reached the activation was left as it is"
        if found.difference == 0
        else f" {FORMS[form]} has changed what goes into the second layer"
    )
    return (
        f"With {FORMS[form]} in between, two layers and the one matrix give {here} at these inputs.{why}; over {count} "
        f"inputs they differ by up to {short(everywhere)}. No single matrix can do what two bent layers do."
    )


# --- a curve built from neurons


def contributions(found: fits.Fit, first: int) -> Picture:
    """Each neuron is two straight lines, so three points draw it."""
    lines: list[tuple[str, Any, Any]] = []
    for at, side, weight in zip(found.kinks.at[:first], found.kinks.side[:first], found.weights[:first], strict=True):
        ends = np.array([fits.LOW, min(max(at, fits.LOW), fits.HIGH), fits.HIGH])
        lines.append(
            (f"kink at {short(at)}", ends, weight * fits.Kinks(np.array([at]), np.array([side])).neurons(ends)[:, 0])
        )
    return curve(
        lines,
        title="What each neuron adds" + (" (the latest stands out)" if first > 1 else ""),
        x_label="x",
        y_label="contribution",
        tensors=["ffn"] * (first - 1) + ["logits"],
        family=True,
    )


FLOOR = 1e-4


def error_curves(every: Mapping[str, tuple[Any, Any]], used: int, error: float) -> Picture:
    """Errors on logarithmic axes; what is met exactly would lie infinitely low, and is drawn at the floor."""
    return curve(
        [(name, counts, np.maximum(errors, FLOOR)) for name, (counts, errors) in every.items()],
        title=f"Error against the number of neurons ({FLOOR:g} or less at the bottom)",
        x_label="neurons",
        y_label="error",
        tensors=["ffn", "logits", "resid"],
        log_x=True,
        log_y=True,
        marker=(used, max(error, FLOOR)) if used else None,
    )


def build_sentence(found: fits.Fit, asked: int, used: int, first: int, target: str, placement: str) -> str:
    neurons = f"{used} neuron{'' if used == 1 else 's'}"
    told = f"With {neurons} the curve is missed by {short(found.error)} on average (root mean square)."
    if used < asked:
        told += f" More than {used} are not needed: nothing is left to fit at the 241 places."
    elif found.error < 1e-9:
        told = f"{neurons} meet{'s' if used == 1 else ''} the curve at all 241 places, up to rounding."
    if found.carrying < used:
        told += f" Only {found.carrying} of them carry any weight; the others are multiplied by zero, up to rounding."
    if first < used:
        return f"{told} Shown are the first {first}: what the others add is missing."
    if target == "step" and used > 2:
        told += " Between two places even the steepest piece is a ramp: a sum of ReLUs has no jumps."
    elif np.max(np.abs(found.parts), initial=0.0) > 20 * np.max(np.abs(found.fitted)):
        told += " Single neurons contribute far more than that and cancel each other."
    elif placement == "random":
        told += " The kinks were drawn without looking at the curve; only the output weights were fitted."
    return told


def sum_formula(found: fits.Fit) -> str:
    terms = []
    carrying = [i for i, weight in enumerate(found.weights) if abs(weight) > found.least_weight]
    for i in carrying[:4]:
        at, side, weight = found.kinks.at[i], found.kinks.side[i], found.weights[i]
        place = f"x {signed(-at, 3)}" if at else "x"
        inside = place if side > 0 else f"{number(at, 3)} - x"
        terms.append(rf"{signed(weight, 3)} \cdot \ffn{{\max(0, {inside})}}")
    rest = r" + \cdots" if len(carrying) > 4 else ""
    constant = 0.0 if abs(found.constant) <= found.least_weight else found.constant
    return rf"y = {number(constant, 3)} {' '.join(terms)}{rest}"


# --- kinks that learn


def learned(run: learning.Run, now: int, last: int) -> Picture:
    """The curve as learned so far, the loss, and the way that the kinks have taken."""
    out, kinks = run.output(now), run.kinks(now)
    inside = kinks[np.abs(kinks) <= fits.HIGH]
    return stack(
        curve(
            [
                ("the network", run.x, out),
                ("the curve", run.x, run.y),
                ("kinks", inside, np.interp(inside, run.x, out)),
            ],
            title=f"After {now} steps",
            x_label="x",
            y_label="y",
            tensors=["ffn", "resid", "ffn"],
            dots=[2],
        ),
        row(
            curve(
                [("loss", np.arange(last + 1), run.losses)],
                title="Loss: mean squared error",
                x_label="steps",
                y_label="loss",
                tensors=["logits"],
                log_y=True,
                marker=(now, float(run.losses[now])),
            ),
            wandering(run, last),
        ),
        readouts(
            [
                ("loss", short(run.losses[now])),
                ("error (root of it)", short(np.sqrt(run.losses[now]))),
                ("kinks inside", f"{len(inside)} of {len(kinks)}"),
                ("dead neurons", f"{run.deaths[now]} of {len(kinks)}"),
            ]
        ),
    )


def wandering(run: learning.Run, last: int) -> Picture:
    """Where each neuron's sum is zero, step by step; what leaves the picture is not drawn."""
    steps = np.unique(np.linspace(0, last, 41).astype(int))
    paths = run.paths[steps]
    seen = np.abs(paths) <= 1.2 * fits.HIGH
    lines = [(f"neuron {i + 1}", steps[seen[:, i]], paths[seen[:, i], i]) for i in range(paths.shape[1])]
    return curve(
        [line for line in lines if len(line[1])] or [("none", [0], [0])],
        title="Where the kinks go",
        x_label="steps",
        y_label="x of the kink",
        tensors=["ffn"] * len(lines),
        family=True,
    )


def learn_sentence(run: learning.Run, now: int, last: int, deaths: int, neurons: int) -> str:
    told = f"After {now} steps the loss is {short(run.losses[now])}; it began at {short(run.losses[0])}."
    if last < learning.STEPS:
        told += f" The steps were too large: each made it worse, and after {last} the run was stopped."
    if deaths == neurons:
        told = f"{told} Every neuron is dead: the network says the same for every x, and no gradient reaches a weight."
        back = run.returning(now)
        return f"{told} Momentum will still bring {back} of them back." if back else told
    if deaths:
        many = "neurons are" if deaths > 1 else "neuron is"
        told = (
            f"{told} {deaths} {many} dead, silent at every place: no gradient reaches {'them' if deaths > 1 else 'it'}."
        )
        back = run.returning(now)
        return f"{told} Momentum will still bring {back} of them back." if back else told
    if run.activation == "leaky_relu" and (below := int(np.sum(run.below(now)))):
        many = "neurons are" if below > 1 else "neuron is"
        return f"{told} None is dead, but {below} {many} below zero at every place and learn by the leak alone."
    return f"{told} No neuron is dead: a gradient reaches each of them."


def loss_formula(run: learning.Run, now: int) -> str:
    squares = r"\left(\ffn{f(x)} - \resid{y(x)}\right)^2"
    return rf"L = \frac{{1}}{{{len(run.x)}}} \sum_x {squares} = {number(run.losses[now])}"


# --- what is left of a slope


def chain_sentence(found: engine.Chain, form: str, weight: float) -> str:
    """How much of a nudge arrives at the end of the chain, and what that means."""
    layers, end = len(found.reach), float(found.reach[-1])
    many = "one neuron" if layers == 1 else f"{layers} neurons"
    told = f"A nudge at the input arrives after {many} "
    if end == 0:
        first = int(np.argmax(found.reach == 0)) + 1
        return (
            f"Nothing of a nudge at the input arrives: neuron {first} has slope 0, and one zero makes a product zero."
        )
    told += "exactly as large as it was." if end == 1 else f"{short(end)} times as large."
    if form == "sigmoid":
        bound = (weight * float(engine.slope("sigmoid", np.zeros(1))[0])) ** layers
        return f"{told} A sigmoid's slope is ¼ at most, so with these weights it is never more than {short(bound)}."
    if abs(end) < 0.01:
        return f"{told} In training, the first of these neurons would learn that much more slowly than the last."
    if abs(end) > 100:
        return f"{told} In training, one ordinary step would throw the first of these neurons far away."
    return told


# --- a gate


def gate_curves(value: float, gate: float, form: str, out: float) -> Picture:
    """The output while only the gate moves, and while only the value does."""
    across, down = np.linspace(-6, 6, 121), np.linspace(-4, 4, 41)
    return row(
        curve(
            [("output", across, gates.gated(np.array(value), across, form).output)],
            title=f"Output while the gate moves (value {short(value)})",
            x_label="gate",
            y_label="output",
            tensors=["ffn"],
            marker=(gate, out),
        ),
        curve(
            [("output", down, gates.gated(down, np.array(gate), form).output)],
            title=f"Output while the value moves (gate {short(gate)})",
            x_label="value",
            y_label="output",
            tensors=["ffn"],
            marker=(value, out),
        ),
    )
