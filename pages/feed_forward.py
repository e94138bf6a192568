"""Feed-forward network. The labs of the page."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import feed_forward as engine
from engine import neurons as study
from engine import rank_one_edit as rome
from engine.activation import ACTIVATIONS
from engine.causal_tracing import causal_trace
from engine.edit_facts import FACTS
from engine.expert_study import ExpertBatch, expert_batch
from engine.formulas import number as plain
from engine.ledger import CONFIGS, active_parameters, total_parameters
from engine.model import ModelBroken, ModelMissing, load
from engine.sampling import softmax
from engine.tokenization import encode, token_bytes
from engine.typed_network import TypedNetwork, places, read_layer, run_typed
from pages._chips import label as chip_label
from pages._chips import many
from pages._reading import ENCODING, piece, read, spoken
from ui.chapter import BOOK, Chapter
from ui.controls import Choice, Pick, Slider, Text, Toggle, within
from ui.figures import Picture, bars, curve, matrix, network, readouts, row, sign, stack, table, tokens
from ui.lab import Preset, compute
from ui.mathml import number, signed

chapter = Chapter(__name__, Path(__file__).parent)
chapter.code["mlp"] = engine.mlp_steps
chapter.code["swiglu"] = engine.swiglu_steps
chapter.code["rank_one"] = rome.rank_one

_NAMES = {"relu": "ReLU", "leaky_relu": "leaky ReLU", "gelu": "GELU", "silu": "SiLU"}
BENDS = {name: _NAMES.get(name, name) for name in ACTIVATIONS}
LLAMA, MIXTRAL = CONFIGS["Llama 3.1 8B"], CONFIGS["Mixtral 8x7B"]


# --- the network and its matrices ------------------------------------------------------------------------------------

FIRST, SECOND = "0.6 -0.9 0.5; 0.4 0.7 -0.8", "0.5 -0.8; 1.1 0.3; -0.6 0.9"
XOR_FIRST, XOR_SECOND = "1 1 0; 1 1 0; 0 -1 0", "1 0; -2 1; 0 0"
STEPS = {
    "x": "X, the input",
    "w1": "X · W1, the first multiplication",
    "a1": "A1, after the activation",
    "w2": "A1 · W2, the second multiplication",
    "a2": "A2, the output",
}


@chapter.lab(
    "matrices",
    title="One network, drawn twice",
    controls=[
        Slider("x1", "Input x1", 1.2, -2.0, 2.0, 0.1),
        Slider("x2", "Input x2", -0.5, -2.0, 2.0, 0.1),
        Choice("activation", "Activation", "relu", BENDS),
        Choice("step", "Write out", "w1", STEPS),
        Choice("place", "Weight to move", "w1:0:0", places()),
        Slider("nudge", "Move it by", 0.0, -2.0, 2.0, 0.1),
        Text("first", "W1: weights of x1; weights of x2; biases if you like", FIRST, limit=120, rows=1),
        Text("second", "W2: weights of h1; of h2; of h3; biases if you like", SECOND, limit=120, rows=1),
    ],
    runs=[run_typed, engine.mlp_steps, read_layer],
    snippet="""
        from engine.typed_network import run_typed

        run = run_typed({x1}, {x2}, {first!r}, {second!r}, {activation!r}, {place!r}, {nudge})
        hidden, activated, output = run.steps.hidden, run.steps.activated, run.steps.output
        print(hidden, activated, output)
    """,
    provenance="Your inputs and weights, computed live",
    presets=[
        Preset(
            "Exclusive or",
            {"x1": 1, "x2": 1, "first": XOR_FIRST, "second": XOR_SECOND, "activation": "relu", "nudge": 0},
            "With inputs 0 and 1, o1 says whether exactly one of them is 1, and o2 whether both are. Try all four.",
        ),
        Preset(
            "Break it: no activation",
            {"x1": 0, "x2": 0, "first": XOR_FIRST, "second": XOR_SECOND, "activation": "linear", "nudge": 0},
            "The same weights without a bend: two zeros now give 2. No weights at all would make it right.",
        ),
        Preset(
            "All three silent",
            {"x1": -1, "x2": -1, "first": "1 0.5 2; 1 1.5 0.2", "second": SECOND, "activation": "relu", "nudge": 0},
            "Every sum is negative, so nothing reaches the second matrix. Moving W2 changes nothing.",
        ),
        Preset(
            "One weight moved",
            {
                "x1": 1.2,
                "x2": -0.5,
                "first": FIRST,
                "second": SECOND,
                "activation": "relu",
                "place": "w1:0:1",
                "nudge": 1.5,
            },
            "The weight from x1 to h2 was −0.9. Turned positive, it wakes h2 up.",
        ),
    ],
    height=590,
)
def matrices(
    x1: float, x2: float, activation: str, step: str, place: str, nudge: float, first: str, second: str
) -> tuple[Any, ...]:
    run = run_typed(x1, x2, first, second, activation, place, nudge)
    picture = stack(_graph(run, activation), _grids(run, activation))
    firing = [f"h{j + 1}" for j in range(3) if not run.suppressed[j]]
    silent = [f"h{j + 1}" for j in range(3) if run.suppressed[j]]
    o1, o2 = run.steps.output
    sentence = (
        (f"{_listed(firing)} {'fires' if len(firing) == 1 else 'fire'}" if firing else "No hidden neuron fires")
        + (f", {_listed(silent)} {'is' if len(silent) == 1 else 'are'} suppressed" if silent and firing else "")
        + f". The network turns ({plain(x1)}, {plain(x2)}) into ({{{{a2:0|{plain(o1)}}}}}, {{{{a2:1|{plain(o2)}}}}})."
    )
    if nudge:
        sentence += f" The weight {places()[place]} stands {abs(nudge):g} {'above' if nudge > 0 else 'below'} its box."
    data = {
        "hidden": run.steps.hidden, "activated": run.steps.activated, "output": run.steps.output,
        "w1": run.w1, "b1": run.b1, "w2": run.w2, "b2": run.b2,
    }  # fmt: skip
    return picture, sentence, _written_out(run, activation, step), data


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _graph(run: TypedNetwork, activation: str) -> Picture:
    nodes = [
        {"id": f"x{i}", "label": f"x{i + 1}", "value": float(run.x[i]), "column": 0, "row": i + 0.5,
         "tensor": "resid", "key": f"x:{i}", "note": f"x{i + 1} = {plain(run.x[i])}"}
        for i in range(2)
    ]  # fmt: skip
    for j in range(3):
        total, out, off = run.steps.hidden[j], run.steps.activated[j], bool(run.suppressed[j])
        nodes.append(
            {"id": f"h{j}", "label": f"h{j + 1} {'silent' if off else 'fires'}", "value": float(out), "column": 1,
             "row": j, "tensor": "ffn", "key": f"a1:{j}", "state": "off" if off else "wanted",
             "note": f"{_sum(run.x, run.w1[:, j], run.b1[j])} = {plain(total)}; "
             f"{BENDS[activation]} makes it {plain(out)}"}
        )  # fmt: skip
    for k in range(2):
        nodes.append(
            {"id": f"o{k}", "label": f"o{k + 1}", "value": float(run.steps.output[k]), "column": 2, "row": k + 0.5,
             "tensor": "resid", "key": f"a2:{k}",
             "note": f"{_sum(run.steps.activated, run.w2[:, k], run.b2[k])} = {plain(run.steps.output[k])}"}
        )  # fmt: skip
    edges = [_edge("x", i, "h", j, run.w1, run.x[i], "w1", True) for i in range(2) for j in range(3)]
    edges += [
        _edge("h", j, "o", k, run.w2, run.steps.activated[j], "w2", not run.suppressed[j])
        for j in range(3) for k in range(2)
    ]  # fmt: skip
    return network(nodes, edges, title="As a graph: every line is a weight", columns=["X", "A1", "A2"], gap=(118, 74))


def _edge(a: str, i: int, b: str, j: int, w: np.ndarray, value: float, name: str, active: bool) -> dict[str, Any]:
    note = f"{a}{i + 1} → {b}{j + 1}: {plain(value)} × {plain(w[i, j])} = {plain(value * w[i, j])}"
    return {
        "from": f"{a}{i}", "to": f"{b}{j}", "value": float(w[i, j]), "text": plain(w[i, j]),
        "note": note, "key": f"{name}:{i}:{j}", "active": active,
    }  # fmt: skip


def _sum(values: np.ndarray, weights: np.ndarray, bias: float) -> str:
    words = " + ".join(f"{plain(v)} × {plain(w)}" for v, w in zip(values, weights, strict=True))
    return words + (f" + {plain(bias)}" if bias else "")


def _grids(run: TypedNetwork, activation: str) -> Picture:
    """The same numbers as matrices. Biases stand as one more row, which an input of 1 multiplies."""
    x, w1 = _with_bias(run.x, run.w1, run.b1)
    a1, w2 = _with_bias(run.steps.activated, run.w2, run.b2)
    inputs, hidden = ["x1", "x2", "1"][: len(x)], ["h1", "h2", "h3", "1"][: len(a1)]
    units, outputs = ["h1", "h2", "h3"], ["o1", "o2"]
    first = row(
        matrix(x, "X", "resid", "x", columns=inputs, keys=[_keys("x", len(x))], limit=2, digits=2),
        sign("×"),
        matrix(w1, "W1", "ffn", "w1", rows=inputs, columns=units, key_rows="x", key_columns="a1", limit=2, digits=2,
               keys=[_keys(f"w1:{i}", 3) for i in range(len(w1))]),
        sign("="),
        matrix(run.steps.hidden, "Z1, the sums", "ffn", "z1", columns=units, keys=[_keys("a1", 3)], limit=2, digits=3,
               product=("x", "w1")),
    )  # fmt: skip
    second = row(
        matrix(a1, f"A1 = {BENDS[activation]}(Z1)", "ffn", "a1", columns=hidden,
               keys=[_keys("a1", len(a1))], limit=2, digits=3),
        sign("×"),
        matrix(w2, "W2", "ffn", "w2", rows=hidden, columns=outputs, key_rows="a1", key_columns="a2", limit=2,
               digits=2, keys=[_keys(f"w2:{j}", 2) for j in range(len(w2))]),
        sign("="),
        matrix(run.steps.output, "A2", "resid", "a2", columns=outputs, keys=[_keys("a2", 2)], limit=2, digits=3,
               product=("a1", "w2")),
    )  # fmt: skip
    return stack(first, second)


def _with_bias(values: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (np.append(values, 1.0), np.vstack([w, b])) if np.any(b) else (values, w)


def _keys(prefix: str, count: int) -> list[str]:
    return [f"{prefix}:{i}" for i in range(count)]


def _written_out(run: TypedNetwork, activation: str, step: str) -> str:
    """The chosen part in LaTeX, with its numbers."""
    s = run.steps
    x, hidden, activated, output = (_vector(v) for v in (run.x, s.hidden, s.activated, s.output))
    if step == "x":
        return rf"\resid{{X}} = {x}"
    if step == "a1":
        name = rf"\text{{{activation.replace('_', ' ')}}}"
        parts = r",\quad ".join(
            rf"{name}({number(z)}) = \ffn{{{number(a)}}}" for z, a in zip(s.hidden, s.activated, strict=True)
        )
        return rf"\ffn{{A_1}} = {name}(\ffn{{Z_1}}):\quad {parts}"
    if step == "w1":
        return rf"\resid{{X}} W_1 = \ffn{{Z_1}} = {hidden}:\quad {_products(run.x, run.w1, run.b1, s.hidden, 'ffn')}"
    if step == "w2":
        return rf"\ffn{{A_1}} W_2 = {output}:\quad {_products(s.activated, run.w2, run.b2, s.output, 'resid')}"
    biases = (rf" + {_vector(run.b1)}" if np.any(run.b1) else "", rf" + {_vector(run.b2)}" if np.any(run.b2) else "")
    inner = rf"\resid{{{x}}} {_block(run.w1)}{biases[0]}"
    return (
        rf"\resid{{A_2}} = \text{{{activation.replace('_', ' ')}}}\left({inner}\right) {_block(run.w2)}{biases[1]}"
        rf" = {activated} {_block(run.w2)}{biases[1]} = \resid{{{output}}}"
    )


def _products(values: np.ndarray, w: np.ndarray, b: np.ndarray, totals: np.ndarray, tensor: str) -> str:
    sums = []
    for j, total in enumerate(totals):
        terms = " + ".join(
            rf"{_bracketed(v)} \cdot {_bracketed(weight)}" for v, weight in zip(values, w[:, j], strict=True)
        )
        bias = f" {signed(b[j])}" if b[j] else ""
        sums.append(rf"{terms}{bias} = \{tensor}{{{number(total)}}}")
    return r",\quad ".join(sums)


def _bracketed(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


def _vector(values: np.ndarray) -> str:
    return r"\begin{pmatrix}" + " & ".join(map(number, values)) + r"\end{pmatrix}"


def _block(values: np.ndarray) -> str:
    return r"\begin{pmatrix}" + r" \\ ".join(" & ".join(map(number, line)) for line in values) + r"\end{pmatrix}"


# --- counting --------------------------------------------------------------------------------------------------------


@chapter.lab(
    "count",
    title="How many parameters is that?",
    controls=[
        Choice("model", "Model", "Llama 3.1 8B", {name: name for name in CONFIGS}),
        Slider("factor", "Your expansion factor", 4.0, 1.0, 8.0, 0.1),
        Toggle("gated", "Yours has a gate", False),
    ],
    runs=[engine.parameter_count, total_parameters],
    snippet="""
        from dataclasses import replace
        from engine.feed_forward import parameter_count
        from engine.ledger import CONFIGS, total_parameters

        config = CONFIGS[{model!r}]
        published = parameter_count(config)
        own = replace(config, hidden=round({factor} * config.width), gated={gated}, experts=1, top_k=1)
        yours = parameter_count(own)
        share = config.layers * published / total_parameters(config)
        print(published, yours, share)
    """,
    provenance="Published sizes, counted live",
    presets=[
        Preset(
            "GPT-2: two matrices", {"model": "GPT-2", "factor": 4, "gated": False}, "The classic: four times as wide."
        ),
        Preset(
            "What a gate costs",
            {"model": "SmolLM2-135M", "factor": 4, "gated": True},
            "A third matrix of the same size: half as many again.",
        ),
        Preset(
            "Two thirds of the width",
            {"model": "SmolLM2-135M", "factor": 2.7, "gated": True},
            "Shazeer made room for the gate by cutting the hidden width by a third: 8/3 in place of 4.",
        ),
        Preset("The widest", {"model": "Gemma 2B", "factor": 8, "gated": True}, "Eight times, with a gate."),
    ],
    height=360,
)
def count(model: str, factor: float, gated: bool) -> tuple[Any, ...]:
    config = CONFIGS[model]
    own = replace(config, hidden=round(factor * config.width), gated=gated, experts=1, top_k=1)
    published, yours, total = engine.parameter_count(config), engine.parameter_count(own), total_parameters(config)
    share = config.layers * published / total
    picture = stack(
        bars(
            ["as published", "yours"],
            [published / 1e6, yours / 1e6],
            title="Millions of parameters in one layer's feed-forward network",
            tensor="ffn",
            notes=[_shape(config), _shape(own)],
            marked=[1],
        ),
        table(
            ["", "matrices", "each", "expansion", "biases", "one layer", f"all {config.layers} layers"],
            [_counted("as published", config, config.layers), _counted("yours", own, config.layers)],
            title="Counted",
        ),
        readouts(
            [
                ("whole model", f"{total:,}"),
                ("its feed-forward share", f"{share:.1%}"),
                ("yours against published", f"{yours / published:.3f} ×"),
            ]
        ),
    )
    experts = f" in each of {config.experts} experts" if config.experts > 1 else ""
    sentence = (
        f"{model} widens {config.width:,} numbers to {config.hidden:,}{experts}, {config.hidden / config.width:.2f} "
        f"times as many, with {'three' if config.gated else 'two'} matrices: {published:,} parameters a layer, and "
        f"{share:.0%} of the whole model in all its layers. Yours would have {yours / published:.2f} times as many."
    )
    matrices_ = 3 if config.gated else 2
    times = rf"{config.experts} \cdot " if config.experts > 1 else ""
    extra = published - config.experts * matrices_ * config.width * config.hidden
    rest = rf" + {extra}" if extra else ""
    formula = rf"{times}{matrices_} \cdot {config.width} \cdot {config.hidden}{rest} = \ffn{{{published}}}"
    data = {"published": published, "yours": yours, "share": share}
    return picture, sentence, formula, data


def _shape(config: Any) -> str:
    return f"{config.width:,} → {config.hidden:,} → {config.width:,}"


def _counted(name: str, config: Any, layers: int) -> list[Any]:
    one = engine.parameter_count(config)
    biases = engine.parameter_count(config) - engine.parameter_count(replace(config, bias=False))
    count_ = (3 if config.gated else 2) * config.experts
    return [
        name, str(count_), f"{config.width:,} × {config.hidden:,}", f"{config.hidden / config.width:.3g}",
        f"{biases:,}", f"{one:,}", f"{one * layers:,}",
    ]  # fmt: skip


# --- experts ---------------------------------------------------------------------------------------------------------


@chapter.lab(
    "experts",
    title="A router and its experts",
    controls=[
        Slider("experts", "Experts", 8, 2, 12),
        Slider("top_k", "Experts for each token", 2, 1, 8),
        Slider("alike", "How much the tokens have in common", 0.0, 0.0, 1.0, 0.05),
        Slider("seed", "Seed", 1, 0, 99),
        Pick("token", "Token", 0),
    ],
    runs=[engine.route, engine.mixture_of_experts, expert_batch],
    snippet="""
        from engine.expert_study import expert_batch

        batch = expert_batch({experts}, min({top_k}, {experts}), {alike}, {seed})
        probabilities, gates, load = batch.routing.probabilities, batch.gates, batch.routing.load
        output = batch.output
        print(load, batch.imbalance)
    """,
    provenance="16 random tokens, a random router and random experts, all of them really run",
    presets=[
        Preset("As in Mixtral", {"experts": 8, "top_k": 2, "alike": 0}, "Eight experts, two for each token."),
        Preset("One each", {"experts": 8, "top_k": 1, "alike": 0}, "The router's single choice; less work, rougher."),
        Preset(
            "Break it: all alike",
            {"experts": 8, "top_k": 2, "alike": 1},
            "Two experts do everything, six wait. Training adds a penalty so that routers do not end like this.",
        ),
        Preset("Dense", {"experts": 8, "top_k": 8, "alike": 0}, "Everyone works on everything: nothing is saved."),
    ],
    height=890,
)
def experts(experts: int, top_k: int, alike: float, seed: int, token: int) -> tuple[Any, ...]:
    batch = expert_batch(experts, min(top_k, experts), alike, seed)
    at, load = within(token, len(batch.x)), batch.routing.load
    rows, columns = [f"t{t + 1}" for t in range(len(batch.x))], [f"E{e + 1}" for e in range(experts)]
    mean = float(np.mean(load))
    picture = stack(
        row(
            matrix(batch.routing.probabilities, "Router: shares over all experts", "attn", "router", rows=rows,
                   columns=columns, scale="share", digits=2, pick="token", picked=at, key_rows="moe",
                   key_columns="expert"),
            matrix(batch.gates, f"Weights of the best {min(top_k, experts)}, made to sum to 1", "ffn", "gates",
                   rows=rows, columns=columns, scale="share", digits=2, pick="token", picked=at, key_rows="moe",
                   key_columns="expert"),
        ),
        row(
            bars(columns, load, title=f"Tokens that each expert gets; {mean:.3g} would be even", tensor="ffn",
                 keys=[f"expert:{e}" for e in range(experts)], limit=16,
                 notes=["idle" if not n else "" for n in load]),
            readouts(
                [
                    ("products of the experts that run", f"{batch.multiplications:,}"),
                    ("if all ran", f"{batch.all_experts:,}"),
                    ("busiest against the mean", f"{batch.imbalance:.2f} ×"),
                    ("expert weights in memory", "all of them"),
                ]
            ),
        ),
    )  # fmt: skip
    order = batch.routing.chosen[at]
    names = _listed([f"expert {e + 1} ({batch.gates[at, e]:.0%})" for e in order[:3]])
    idle = int(np.count_nonzero(load == 0))
    sentence = (
        f"Token {at + 1} goes to {names}{' and others' if len(order) > 3 else ''}. The batch needs "
        f"{batch.multiplications / batch.all_experts:.0%} of the products that all experts together would. "
        f"The busiest expert has {many(int(load.max()), 'token')} of {len(batch.x)}"
        + (f", and {many(idle, 'expert')} {'has' if idle == 1 else 'have'} nothing to do." if idle else ".")
    )
    data = {
        "probabilities": batch.routing.probabilities, "gates": batch.gates, "load": load, "output": batch.output,
    }  # fmt: skip
    return picture, sentence, _mix(batch, at), data


def _mix(batch: ExpertBatch, at: int) -> str:
    """Where the best weight of one token comes from, and what its output is made of."""
    p, order = batch.routing.probabilities[at], batch.routing.chosen[at]
    total = " + ".join(number(p[e], 3) for e in order)
    parts = " + ".join(rf"\ffn{{{number(batch.gates[at, e], 3)}}} \cdot E_{{{e + 1}}}(x)" for e in order[:3])
    more = r" + \dots" if len(order) > 3 else ""
    best = order[0]
    return (
        rf"\ffn{{g_{{{best + 1}}}}} = \frac{{{number(p[best], 3)}}}{{{total}}} = "
        rf"\ffn{{{number(batch.gates[at, best], 3)}}}"
        rf",\qquad y = {parts}{more}"
    )


@chapter.lab(
    "active",
    title="What a token uses, and what must be in memory",
    controls=[
        Slider("experts", "Experts in each layer", 8, 1, 64),
        Slider("top_k", "Experts for each token", 2, 1, 8),
    ],
    runs=[active_parameters, total_parameters, engine.parameter_count],
    snippet="""
        from dataclasses import replace
        from engine.ledger import CONFIGS, active_parameters, total_parameters

        config = replace(CONFIGS["Mixtral 8x7B"], experts={experts}, top_k=min({top_k}, {experts}))
        total, active = total_parameters(config), active_parameters(config)
        print(total, active)
    """,
    provenance="Mixtral 8x7B's published sizes, counted live",
    presets=[
        Preset("Mixtral 8x7B", {"experts": 8, "top_k": 2}),
        Preset("One expert: Mistral 7B", {"experts": 1, "top_k": 1}, "Without a router it is the dense model again."),
        Preset("Many experts", {"experts": 64, "top_k": 2}, "The work per token hardly moves; the memory does."),
    ],
    height=510,
)
def active(experts: int, top_k: int) -> tuple[Any, ...]:
    config = replace(MIXTRAL, experts=experts, top_k=min(top_k, experts))
    total, used = total_parameters(config), active_parameters(config)
    counts = [2**p for p in range(7)]
    sweep = [replace(MIXTRAL, experts=n, top_k=min(top_k, n)) for n in counts]
    picture = stack(
        bars(
            ["all parameters", "work on one token"],
            [total / 1e9, used / 1e9],
            title="Billions of parameters",
            tensor="ffn",
            notes=[f"{total:,}", f"{used:,}"],
        ),
        row(
            curve(
                [
                    ("memory in BF16, GB", counts, [2 * total_parameters(c) / 1e9 for c in sweep]),
                    ("arithmetic of a token, GFLOP", counts, [2 * active_parameters(c) / 1e9 for c in sweep]),
                ],
                title=f"More experts, {min(top_k, experts)} at a time",
                x_label="experts in each layer",
                y_label="GB, GFLOP",
                tensors=["grad", "ffn"],
                log_x=True,
                log_y=True,
                points=True,
                marker=(experts, 2 * total / 1e9),
            ),
            readouts(
                [
                    ("memory in BF16", f"{2 * total / 1e9:.1f} GB"),
                    ("arithmetic of a token", f"{2 * used / 1e9:.1f} GFLOP"),
                    ("working share", f"{used / total:.1%}"),
                ]
            ),
        ),
    )
    sentence = (
        f"With {many(experts, 'expert')}, {min(top_k, experts)} for each token, the model has {total / 1e9:.1f} "
        f"billion parameters, of which {used / 1e9:.1f} billion work on a token. All {2 * total / 1e9:.1f} GB must be "
        "in memory, since the next token may ask for any of them."
    )
    formula = (
        rf"\frac{{\text{{active}}}}{{\text{{total}}}} = \frac{{{used}}}{{{total}}} = \ffn{{{number(used / total, 3)}}}"
    )
    return picture, sentence, formula, {"total": total, "active": used}


# --- neurons of the real model ---------------------------------------------------------------------------------------

SHOWN = 12


def _neuron_preset(label: str, why: str, **values: Any) -> Preset:
    return Preset(label, {"by": "share", "token": -1, "rank": 0, "off": False, **values}, why)


@chapter.lab(
    "neurons",
    title="The strongest neurons, and the words they speak for",
    controls=[
        Slider("layer", "Layer", 24, 0, 29),
        Choice(
            "by", "Rank by", "share",
            {"share": "share of the network's output", "push": "push on the likeliest next token"},
        ),
        Toggle("off", "Switch the neuron off", False),
        Pick("token", "Token", -1),
        Pick("rank", "Neuron", 0),
    ],
    runs=[study.neurons, study.direct_push, study.pushes_on, study.without_neuron],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.neurons import neurons, pushes_on
        from engine.tokenization import encode

        model, ids = load(), encode({sentence!r}, "smollm2")[:48]
        trace = model.trace(ids)
        position = {token} if 0 <= {token} < len(ids) else len(ids) - 1
        found = neurons(model, trace, {layer}, position)
        shares = found.shares
        likeliest = int(np.argmax(trace["logits"][position]))
        pushes = pushes_on(model, trace, {layer}, position, likeliest)
        print(found.order[:12], shares[found.order[:12]].round(3), found.half)
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        _neuron_preset("Too …", "After “too”, one neuron writes half of the output.", layer=24),
        _neuron_preset("Early", "Many neurons share the work, and hardly any speaks for a word.", layer=3),
        _neuron_preset(
            "The last layer",
            "Ranked by their push on the favourite: the strongest may well push against it.",
            layer=29,
            by="push",
        ),
        _neuron_preset("Without it", "What the model says when this one is silent.", layer=24, off=True),
    ],
    height=(780, 1414),
)  # fmt: skip
def neurons(sentence: str, layer: int, by: str, off: bool, token: int, rank: int) -> tuple[Any, ...]:
    reading = read(sentence)
    at, model, trace = within(token, len(reading.ids)), reading.model, reading.trace
    found, p = study.neurons(model, trace, layer, at), softmax(trace["logits"][at])
    likeliest = int(np.argmax(p))
    pushes = study.pushes_on(model, trace, layer, at, likeliest)
    order = found.order if by == "share" else np.argsort(-np.abs(pushes), kind="stable")
    place = min(max(rank, 0), SHOWN - 1)
    neuron, values = int(order[place]), found.shares if by == "share" else pushes
    key = ("direct_push", reading.ids, layer, at, neuron)
    up, down, by_up, by_down = model.memo.get(key, lambda: _push(reading, layer, at, neuron, found.hidden))
    ahead = _name(likeliest)
    top = order[:SHOWN]
    picture = stack(
        tokens(
            [{"text": text, "key": f"token:{i}"} for i, text in enumerate(reading.pieces)],
            title=f"What neuron {neuron} of layer {layer} does at each token; click one to look there",
            pick="token", picked=at, shares=trace[f"blk.{layer}.ffn.hidden"][:, neuron], scale="signed",
            show=["no-ids"],
        ),
        row(
            bars([f"neuron {j}" for j in top], values[top],
                 title=("Share of the network's output" if by == "share" else f"Push on {ahead}") + "; click one",
                 tensor="ffn", share=by == "share", pick="rank", picked=place,
                 notes=[f"h = {plain(round(float(found.hidden[j]), 1))}" for j in top]),
            curve([("carried", *_carried(found))], title="Neurons needed, the strongest first",
                  x_label="neurons", y_label="share of the output", tensors=["ffn"], log_x=True,
                  marker=(found.half, found.carried(found.half))),
        ),
        row(
            bars([_name(i) for i in up], by_up, title=f"Tokens that neuron {neuron} pushes up, in logits",
                 tensor="logits"),
            bars([_name(i) for i in down], by_down, title="Tokens that it pushes down", tensor="logits"),
        ),
        *(_switched_off(reading, layer, at, neuron, p) if off else ()),
    )  # fmt: skip
    text = (
        f"{reading.note}In layer {layer}, at “{spoken(reading.pieces[at])}”, neuron {neuron} adds "
        f"{found.shares[neuron]:.1%} of what the network writes. It pushes up "
        f"{_listed([f'“{spoken(piece(int(i)))}”' for i in up[:3]])}. "
        + (
            "A single neuron carries half of the output."
            if found.half == 1
            else f"The {found.half} of {len(found.hidden):,} neurons with the largest shares carry half of the output."
        )
    )
    if off:
        without = float(softmax(_without(reading, layer, at, neuron))[likeliest])
        went = "falls" if without < p[likeliest] else "rises"
        text += f" Without it “{spoken(piece(likeliest))}” {went} from {p[likeliest]:.1%} to {without:.1%}."
    size = float(found.lengths[neuron])
    formula = (
        rf"\ffn{{h_{{{neuron}}}}} = {number(found.hidden[neuron])},\quad "
        rf"|\ffn{{h_{{{neuron}}}}} w_{{{neuron}}}| = {number(size)},\quad "
        rf"\frac{{\ffn{{h_{{{neuron}}}}} w_{{{neuron}}} \cdot y}}{{y \cdot y}} = "
        rf"\ffn{{{number(found.shares[neuron])}}}"
    )
    data = {"shares": found.shares, "hidden": found.hidden, "pushes": pushes, "pushed_up": up, "pushed_down": down}
    return picture, text, formula, data


def _push(reading: Any, layer: int, at: int, neuron: int, hidden: np.ndarray) -> list[np.ndarray]:
    """The tokens that a neuron raises and lowers most, and by how much."""
    written = study.contribution(reading.model, layer, neuron, hidden)
    push = study.direct_push(reading.model, written, reading.trace["blk.29.resid"][at], k=8)
    return [push.up, push.down, push.logits[push.up], push.logits[push.down]]


def _without(reading: Any, layer: int, at: int, neuron: int) -> np.ndarray:
    key = ("without_neuron", reading.ids[: at + 1], layer, neuron)
    logits: np.ndarray = reading.model.memo.get(
        key, lambda: study.without_neuron(reading.model, reading.trace, layer, neuron, at)
    )
    return logits


def _switched_off(reading: Any, layer: int, at: int, neuron: int, p: np.ndarray) -> tuple[Picture]:
    without = softmax(_without(reading, layer, at, neuron))
    best = sorted({*np.argsort(-p)[:4].tolist(), *np.argsort(-without)[:4].tolist()}, key=lambda i: -p[i])
    names = [_name(i) for i in best]
    return (
        row(
            bars(names, p[best], title="The model as it is", tensor="logits", share=True, limit=1),
            bars(names, without[best], title=f"With neuron {neuron} off", tensor="logits", share=True, limit=1),
        ),
    )


def _carried(found: study.Neurons) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the largest shares, at about forty counts."""
    counts = np.unique(np.round(np.geomspace(1, len(found.order), 40)).astype(int))
    return counts, np.cumsum(found.shares[found.order])[counts - 1]


def _name(token: int) -> str:
    return chip_label(token_bytes(int(token), ENCODING))


# --- a rank-one edit -------------------------------------------------------------------------------------------------

STRENGTHS = ("0", "0.25", "0.5", "0.75", "1", "1.5", "2")
KINDS = {"edited": "edited", "reworded": "reworded", "other": "should stay", "unrelated": "unrelated"}


def _edit_preset(label: str, why: str, fact: str, layer: int, **values: Any) -> Preset:
    return Preset(label, {"fact": fact, "layer": str(layer), "strength": "1", "statistics": True, **values}, why)


FACT = Choice("fact", "Fact to change", "france", {name: fact.name for name, fact in FACTS.items()})


@chapter.lab(
    "edit",
    title="Change one matrix, change one fact",
    controls=[
        FACT,
        Choice("layer", "Layer whose matrix is changed", "7", {str(n): f"layer {n}" for n in rome.LAYERS}),
        Choice("strength", "Strength", "1", {s: f"{s} ×" for s in STRENGTHS}),
        Toggle("statistics", "Spare what ordinary text uses", True),
    ],
    runs=[rome.rank_one_edit, rome.find_value, rome.key_detector, rome.rank_one, rome.edited_model],
    snippet="""
        from engine.edit_facts import FACTS
        from engine.model import load
        from engine.rank_one_edit import on_text, rank_one_edit
        from engine.tokenization import encode

        model, fact = load(), FACTS[{fact!r}]
        edited = rank_one_edit(model, fact, {layer}, {statistics}, {strength})
        answer_before, answer_after = edited.before.answer, edited.after.answer
        new_after, doses = edited.after.new, edited.doses
        for probe, p, q in zip(fact.probes, answer_after, new_after):
            print(probe.prompt, p.round(3), q.round(3))
        own_doses = on_text(model, edited, {layer}, encode({sentence!r}, "smollm2")[:48]).doses
    """,
    provenance="SmolLM2's real weights, one matrix of them really changed",
    real=True,
    presets=[
        _edit_preset("A clean edit", "Other words work too, and Germany keeps Berlin.", "france", 7),
        _edit_preset("Too broad", "The prompt works perfectly, and Berlin has moved to Rome as well.", "france", 19),
        _edit_preset("Too late", "After layer 28 little is left to carry the news to the last token.", "france", 28),
        _edit_preset(
            "Without statistics",
            "The plain key leaks into sentences that have nothing to do with the tower: look at their loss.",
            "eiffel",
            25,
            statistics=False,
        ),
        _edit_preset("Half a dose", "Not enough: the old fact still stands.", "gold", 10, strength="0.5"),
        _edit_preset(
            "Hamlet as the first word",
            "Where Hamlet is the very first token, its key is another, and the edit hardly reaches it.",
            "hamlet",
            7,
        ),
    ],
    height=(715, 1991),
)
def edit(sentence: str, fact: str, layer: str, strength: str, statistics: bool) -> tuple[Any, ...]:
    reading = read(sentence)
    chosen, at = FACTS[fact], int(layer)
    edited = rome.rank_one_edit(reading.model, chosen, at, statistics, float(strength))
    key = ("on_text", reading.ids, fact, layer, strength, statistics)
    own = reading.model.memo.get(key, lambda: _on_sentence(reading, edited, at))
    before, after, old, new = edited.before, edited.after, spoken(chosen.old), spoken(chosen.new)
    rows = [
        [KINDS[probe.kind], probe.prompt + " …", {"share": float(before.answer[i])}, {"share": float(after.answer[i])},
         {"share": float(after.new[i])}, spoken(probe.answer), spoken(piece(int(after.top[i]))),
         f"{edited.doses[i]:+.2f}".replace("-", "−")]
        for i, probe in enumerate(chosen.probes)
    ]  # fmt: skip
    picture = stack(
        row(
            bars([old, new], [before.answer[0], before.new[0]], title=f"“{chosen.prompt} …” before",
                 tensor="logits", share=True, limit=1),
            bars([old, new], [after.answer[0], after.new[0]], title="after the edit", tensor="logits", share=True,
                 limit=1, marked=[1]),
        ),
        table(
            ["", "prompt", "right, before", "right, after", f"“{new}”, after", "right", "says now", "dose"],
            rows, title="What the changed model says", marked=[0],
        ),
        tokens(
            [{"text": text, "key": f"token:{i}", "note": f"{own[0][i]:+.2f}".replace("-", "−")}
             for i, text in enumerate(reading.pieces)],
            title="Your own sentence: the dose that each token receives", shares=own[0], scale="signed",
            show=["no-ids"],
        ),
        readouts(
            [
                ("loss on unrelated sentences", f"{before.loss:.3f} → {after.loss:.3f} nats"),
                ("your sentence goes on with", f"{_name(own[3])} → {_name(own[4])}"),
                ("its loss", f"{own[1]:.3f} → {own[2]:.3f} nats" if own[1] == own[1] else "one token has none"),
                ("numbers in the matrix", f"{576 * 1536:,}"),
                ("numbers that say the change", f"{576 + 1536:,}"),
            ]
        ),
    )  # fmt: skip
    data = {
        "answer_before": before.answer, "answer_after": after.answer, "new_before": before.new,
        "new_after": after.new, "doses": edited.doses, "own_doses": own[0],
        "search_losses": np.array(edited.target.losses),
    }  # fmt: skip
    return picture, reading.note + _edit_sentence(chosen, edited, at), _edit_formula(edited, float(strength)), data


def _on_sentence(reading: Any, edited: rome.Edited, layer: int) -> list[Any]:
    found = rome.on_text(reading.model, edited, layer, reading.ids)
    losses = found.losses or (float("nan"), float("nan"))
    return [found.doses, *losses, int(np.argmax(found.before)), int(np.argmax(found.after))]


def _edit_sentence(fact: Any, edited: rome.Edited, layer: int) -> str:
    new, summary = spoken(fact.new), rome.summary(edited, fact)
    took = "took" if edited.after.new[0] > 0.5 else "did not take"
    lost = [
        spoken(probe.answer)
        for probe, p, top in zip(fact.probes, edited.before.answer, edited.after.top, strict=True)
        if probe.kind in ("other", "unrelated") and p > 0.3 and piece(int(top)) != probe.answer
    ]
    return (
        f"In layer {layer} the edit {took}: “{new}” now has {summary['edited']:.1%} after the prompt, and "
        f"{summary['reworded']:.0%} on average where the same fact is asked in other words. Where nothing should "
        f"change, the right answers keep {summary['other']:.0%} of {summary['other_before']:.0%} on average"
        + (
            f", and {_listed([f'“{word}”' for word in lost])} {'is' if len(lost) == 1 else 'are'} no longer said first."
            if lost
            else "."
        )
    )


def _edit_formula(edited: rome.Edited, strength: float) -> str:
    arrow = r" \rightarrow "
    key, whole, length = edited.target.key, np.linalg.norm(edited.target.change), np.linalg.norm(edited.change)
    return (
        r"W' = W + \ffn{u}\,\grad{\delta}^\top,\quad "
        rf"\ffn{{u}} \cdot \ffn{{k^*}} = {number(float(key @ edited.detector), 3)},\quad "
        rf"|\grad{{\delta}}| = {number(strength, 3)} \cdot {number(float(whole))}"
        rf" = {number(float(length))},\quad -\ln p = {arrow.join(number(loss, 3) for loss in edited.target.losses)}"
        rf"{arrow}{number(-float(np.log(max(edited.after.new[0], 1e-30))), 3)}"
    )


def prepare() -> None:
    """The page of ordinary text and the prompts take seconds: better before the first reader comes."""
    try:
        model = load()
    except (ModelMissing, ModelBroken):
        return
    for fact in FACTS.values():
        rome.untouched(model, fact)
        model.trace(encode(fact.prompt, ENCODING))
    for name in ("neurons", "edit"):
        compute(chapter.labs[name], {})


BOOK.before_serving.append(prepare)


# --- which layer? ----------------------------------------------------------------------------------------------------

RECORDED = Path(__file__).parent.parent / "data" / "rank_one_edits.json"


@lru_cache(maxsize=1)
def recorded() -> dict[str, Any]:
    """The recorded edits of all facts in all offered layers."""
    return dict(json.loads(RECORDED.read_text("utf-8")))


@chapter.lab(
    "which-layer",
    title="Which layer should be edited?",
    controls=[
        Choice(
            "fact",
            "Fact to change",
            "france",
            {name: fact.name for name, fact in FACTS.items()} | {"all": "mean of all five"},
        ),
        Toggle("statistics", "Spare what ordinary text uses", True),
        Slider("look", "Look at layer", 7, 1, 28, 3),
    ],
    runs=[rome.rank_one_edit, rome.summary, causal_trace],
    snippet="""
        import json
        import numpy as np

        facts = json.load(open("data/rank_one_edits.json"))["facts"]
        names = list(facts) if {fact!r} == "all" else [{fact!r}]
        kind = "statistics" if {statistics} else "key"
        edited, reworded, other = (
            np.mean([[layer[what] for layer in facts[name][kind]] for name in names], axis=0)
            for what in ("edited", "reworded", "other")
        )
        print(edited, reworded, other)
    """,
    provenance="Recorded run: python -m scripts.record_rank_one_edits",
    presets=[
        Preset("All five facts", {"fact": "all", "statistics": True}, "On average an early layer is best."),
        Preset("Hamlet", {"fact": "hamlet", "statistics": True, "look": 22}, "Layer 22 fails among ones that succeed."),
        Preset("Plain keys", {"fact": "all", "statistics": False}, "A little more reach, and more damage."),
    ],
    height=910,
)
def which_layer(fact: str, statistics: bool, look: int) -> tuple[Any, ...]:
    run, kind = recorded(), "statistics" if statistics else "key"
    layers = np.array(run["layers"])
    chosen = [run["facts"][name] for name in (FACTS if fact == "all" else [fact])]
    mean = {
        what: np.mean([[entry[what] for entry in one[kind]] for one in chosen], axis=0)
        for what in ("edited", "reworded", "other", "other_before", "loss")
    }
    traced = np.mean([(np.array(one["restored"]) - one["blurred"]) / one["clean"] for one in chosen], axis=0)
    at = int(np.argmin(np.abs(layers - look)))
    balance = mean["reworded"] * mean["other"]
    best, trail = int(layers[np.argmax(balance)]), int(layers[np.argmax(traced)])
    picture = stack(
        curve(
            [
                ("new answer, the edited prompt", layers, mean["edited"]),
                ("new answer, other words", layers, mean["reworded"]),
                ("right answer where nothing should change", layers, mean["other"]),
            ],
            title="Edits, layer by layer: mean probabilities",
            x_label="edited layer",
            y_label="probability",
            tensors=["grad", "logits", "attn"],
            points=True,
            marker=(float(layers[at]), float(mean["reworded"][at])),
        ),
        row(
            curve(
                [("share of the answer brought back", layers, traced)],
                title="Causal tracing: five layers' output restored",
                x_label="middle of the five layers",
                y_label="share brought back",
                tensors=["ffn"],
                points=True,
                marker=(float(layers[at]), float(traced[at])),
            ),
            readouts(
                [
                    ("layer", str(layers[at])),
                    ("the edited prompt", f"{mean['edited'][at]:.1%}"),
                    ("other words", f"{mean['reworded'][at]:.1%}"),
                    ("should stay", f"{mean['other'][at]:.1%} of {mean['other_before'][at]:.1%}"),
                    ("loss, unrelated", f"{mean['loss'][at]:+.3f} nats".replace("-", "−")),
                    ("traced", f"{traced[at]:.1%}"),
                ]
            ),
        ),
    )
    sentence = (
        f"Edits of layer {layers[at]} give the new answer {mean['reworded'][at]:.0%} in other words and leave the "
        f"right answers {mean['other'][at]:.0%} elsewhere. Both together are best in layer {best}. Tracing points to "
        f"layer {trail}"
        + (
            "."
            if trail == best
            else f", where the same product is {balance[np.argmax(traced)]:.2f} instead of {balance.max():.2f}."
        )
    )
    formula = (
        rf"\text{{reach}} \times \text{{care}} = {number(mean['reworded'][at], 3)} \cdot {number(mean['other'][at], 3)}"
        rf" = \ffn{{{number(balance[at], 3)}}}"
    )
    data = {name: mean[name] for name in ("edited", "reworded", "other", "loss")} | {"layers": layers, "traced": traced}
    return picture, sentence, formula, data


# --- numbers of the prose --------------------------------------------------------------------------------------------


@chapter.number
def llama_matrix() -> str:
    return f"{LLAMA.width:,} × {LLAMA.hidden:,}"


@chapter.number
def llama_layer() -> int:
    return engine.parameter_count(LLAMA)


@chapter.number
def llama_share() -> str:
    return f"{LLAMA.layers * engine.parameter_count(LLAMA) / total_parameters(LLAMA):.0%}"


@chapter.number
def llama_total() -> int:
    return total_parameters(LLAMA)


@chapter.number
def mixtral_total() -> int:
    return total_parameters(MIXTRAL)


@chapter.number
def mixtral_active() -> int:
    return active_parameters(MIXTRAL)


@chapter.number
def mixtral_memory() -> str:
    return f"{2 * total_parameters(MIXTRAL) / 1e9:.1f} GB"


@chapter.number
def eight_sevens() -> str:
    return f"{8 * total_parameters(CONFIGS['Mistral 7B']) / 1e9:.0f} billion"


@chapter.number
def best_layers() -> str:
    """The best layer of each fact by reach times care, in the recorded run."""
    run = recorded()
    found = [
        run["layers"][
            int(np.argmax([entry["reworded"] * entry["other"] for entry in run["facts"][name]["statistics"]]))
        ]
        for name in FACTS
    ]
    return _listed([str(layer) for layer in sorted(set(found))])


@chapter.number
def traced_first() -> str:
    """For how many facts causal tracing points to the first layers."""
    first = [int(np.argmax(fact["restored"])) == 0 for fact in recorded()["facts"].values()]
    return f"{sum(first)} of {len(first)}"


def _france(layer: int, what: str) -> str:
    entries = zip(recorded()["layers"], recorded()["facts"]["france"]["statistics"], strict=True)
    return f"{next(entry[what] for at, entry in entries if at == layer):.0%}"


@chapter.number
def france_edited() -> str:
    return _france(7, "edited")


@chapter.number
def france_reworded() -> str:
    return _france(7, "reworded")


@chapter.number
def france_other() -> str:
    return _france(7, "other")


@chapter.number
def france_other_before() -> str:
    return _france(7, "other_before")


@chapter.number
def france_late() -> str:
    return _france(19, "other")


@chapter.number
def page_tokens() -> int:
    return len(encode(rome.TEXT.read_text("utf-8"), ENCODING))


# --- check yourself --------------------------------------------------------------------------------------------------


@chapter.answer
def share_of_llama() -> float:
    return LLAMA.layers * engine.parameter_count(LLAMA) / total_parameters(LLAMA)


@chapter.answer
def dead_weight_moves_output() -> bool:
    """Does moving a weight out of a suppressed ReLU neuron change the output?"""
    still = run_typed(1.2, -0.5, FIRST, SECOND, "relu")
    moved = run_typed(1.2, -0.5, FIRST, SECOND, "relu", "w2:1:0", 1.0)
    return bool(np.any(still.steps.output != moved.steps.output))


@chapter.answer
def memory_of_mixtral() -> float:
    return 2 * total_parameters(MIXTRAL) / 1e9


@chapter.answer
def berlin_after(**_: Any) -> str:
    """What the recorded edit of layer 19 did where nothing should change."""
    entry = next(
        e for n, e in zip(recorded()["layers"], recorded()["facts"]["france"]["statistics"], strict=True) if n == 19
    )
    return "a lot" if entry["edited"] > 0.9 and entry["other"] < 0.5 * entry["other_before"] else "little"


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
