"""Optimizers: what is done with a gradient, on surfaces, in single steps, on matrices and in training. The labs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import descents
from engine import optimizer_study as study
from engine import optimizers as engine
from engine.block import total_parameters
from engine.curve_fit import TARGETS
from engine.descents import SURFACES, Trajectory
from engine.ledger import CONFIGS
from pages._rounding import MINUS
from pages._steps import COLOURS, SCHEDULE_TITLES, STATE_TITLES, SURFACE_TITLES, TITLES, Lines, listed
from ui.chapter import BOOK, Chapter, written
from ui.controls import Choice, Slider, Toggle
from ui.figures import Picture, bars, contour, curve, math, matrix, readouts, row, sign, stack, table
from ui.lab import Preset, compute
from ui.mathml import mathml, number

chapter = Chapter(__name__, Path(__file__).parent)
chapter.code["Adam.update"] = engine.Adam.update
chapter.code["orthogonalise"] = engine.orthogonalise

LOWEST_DRAWN = 1e-12
SMOLLM2 = CONFIGS["SmolLM2-135M"]
GB = 1e9


def plain(value: float) -> str:
    """A setting in a sentence."""
    return f"{value:g}".replace("-", MINUS)


def point(x: float, y: float) -> str:
    return f"({plain(round(float(x), 4) + 0.0)}, {plain(round(float(y), 4) + 0.0)})"  # + 0.0: no minus sign at 0


@functools.cache
def landscape(surface: str) -> np.ndarray:
    return descents.heights(SURFACES[surface])


def ground(surface: str, paths: list[tuple[str, str, Any]], **more: Any) -> Picture:
    """The map of a surface with paths in it."""
    where = SURFACES[surface]
    return contour(
        landscape(surface), where.view, paths, x_label="x", y_label="y", marks=where.minima, legend=False, **more
    )


# --- the walk --------------------------------------------------------------------------------------------------------

ON = {"sgd": True, "momentum": True, "nesterov": False, "rmsprop": False, "adam": True, "adamw": False, "lion": False,
      "muon": False}  # fmt: skip
ALL_OFF = dict.fromkeys(ON, False)
PLAIN = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0, "noise": 0}
FACT = {"surface": "ravine", "x0": -1, "y0": 1, "lr": 0.015, "lr_rescaling": 0.05, "steps": 100} | PLAIN


@chapter.lab(
    "walk",
    title="Eight ways down",
    controls=[
        Choice("surface", "The loss", "ravine", SURFACE_TITLES),
        *[Toggle(name, TITLES[name], on) for name, on in ON.items()],
        Slider("lr", "Learning rate of SGD, momentum, Nesterov", 0.015, 0.0005, 0.12, 0.0005),
        Slider("lr_rescaling", "Learning rate of the other five", 0.05, 0.002, 0.4, 0.002),
        Slider("beta1", "β₁: what momentum keeps", 0.9, 0, 0.99, 0.01),
        Slider("beta2", "β₂: what the squares keep", 0.99, 0.5, 0.999, 0.001),
        Slider("weight_decay", "Weight decay", 0, 0, 2, 0.05),
        Slider("steps", "Steps", 100, 1, 200),
        Slider("noise", "Noise in the gradient", 0, 0, 10, 0.25),
        Slider("seed", "Seed of the noise", 0, 0, 20),
        Slider("x0", "Start: x", -1, -2.4, 3.3, 0.01),
        Slider("y0", "Start: y", 1, -2.1, 1.6, 0.01),
    ],
    runs=[descents.trajectory, engine.SGD.update, engine.Adam.update, engine.Lion.update, engine.Muon.update],
    snippet="""
        from engine.optimizer_study import race

        on = {{"sgd": {sgd}, "momentum": {momentum}, "nesterov": {nesterov}, "rmsprop": {rmsprop},
              "adam": {adam}, "adamw": {adamw}, "lion": {lion}, "muon": {muon}}}
        walks = race(
            {surface!r}, [name for name in on if on[name]], ({x0}, {y0}), {steps}, lr={lr}, lr_rescaling={lr_rescaling},
            beta1={beta1}, beta2={beta2}, weight_decay={weight_decay}, noise={noise}, seed={seed},
        )
        last_losses = [walk.losses[-1] for walk in walks.values()]
        print(dict(zip(walks, last_losses)))
    """,
    provenance="computed live; slopes written out and held against backpropagation by a test",
    presets=[
        Preset("SGD against momentum", FACT | ALL_OFF | {"sgd": True, "momentum": True},
               "A ravine a hundred times steeper across than along, 100 steps, the same learning rate."),
        Preset("One rate, one falls out", FACT | ALL_OFF | {"momentum": True, "nesterov": True},
               "PyTorch's Nesterov counts the newest gradient almost twice. Here that is too much."),
        Preset("A little too fast", FACT | ALL_OFF | {"sgd": True, "lr": 0.0205},
               "Above 2 / 100 each step overshoots further than the last."),
        Preset("Turned by 37°", FACT | ALL_OFF | {"surface": "turned", "x0": -1.4, "y0": 0.2, "sgd": True,
               "momentum": True, "adam": True, "muon": True},
               "The same ravine, askew. A rate for x and one for y cannot straighten it."),
        Preset("Rosenbrock's valley", PLAIN | ALL_OFF | {"surface": "rosenbrock", "x0": -1.2, "y0": 1, "lr": 0.001,
               "lr_rescaling": 0.05, "steps": 200, "sgd": True, "momentum": True, "adam": True, "muon": True},
               "Into the valley is easy. Along its floor the slope is almost nothing."),
        Preset("On the saddle", PLAIN | ALL_OFF | {"surface": "saddle", "x0": -0.6, "y0": 0.01, "lr": 0.015,
               "lr_rescaling": 0.05, "steps": 20, "sgd": True, "momentum": True, "adam": True, "lion": True},
               "Almost on the ridge: the slope sideways is tiny. Who does not care how tiny?"),
        Preset("Noise", PLAIN | ALL_OFF | {"surface": "noisy", "x0": -1, "y0": 0.8, "lr": 0.1, "lr_rescaling": 0.1,
               "steps": 150, "sgd": True, "momentum": True, "adam": True, "lion": True},
               "Each step sees 4 of 64 examples. Nobody comes to rest."),
        Preset("Other noise for each seed", PLAIN | ALL_OFF | {"surface": "bowl", "x0": -1, "y0": 0.8, "lr": 0.1,
               "lr_rescaling": 0.1, "steps": 100, "noise": 1, "sgd": True, "adam": True},
               "The gradient is blurred at every step. Another seed, another path."),
        Preset("All eight", FACT | dict.fromkeys(ON, True) | {"lr": 0.01, "lr_rescaling": 0.034},
               "The same start. Only at the first step do all see the same gradient."),
    ],
    height=500,
)  # fmt: skip
def walk(
    surface: str, lr: float, lr_rescaling: float, beta1: float, beta2: float, weight_decay: float, steps: int,
    noise: float, seed: int, x0: float, y0: float, **on: bool,
) -> tuple[Any, ...]:  # fmt: skip
    names = [name for name in ON if on[name]]
    walks = study.race(
        surface, names, (x0, y0), steps, lr=lr, lr_rescaling=lr_rescaling, beta1=beta1, beta2=beta2,
        weight_decay=weight_decay, noise=noise, seed=seed,
    )  # fmt: skip
    where = SURFACES[surface]
    first, target = float(where.height(x0, y0)), where.target
    lines: list[tuple[str, Any, Any]] = [
        (TITLES[name], np.arange(len(w.losses)), drawn(w.losses)) for name, w in walks.items()
    ]
    lines.append((f"the target, {written(target)}", [0, steps], [target, target]))
    picture = stack(
        row(
            ground(
                surface,
                [(TITLES[name], COLOURS[name], w.points) for name, w in walks.items()],
                title="Seen from above; × is the lowest place. Click to start elsewhere",
                start=(x0, y0),
                pick=("x0", "y0"),
            ),
            curve(
                lines, title="The loss after each step", x_label="step", y_label="loss (log)", log_y=True,
                tensors=[*[COLOURS[name] for name in names], "logits"],
            ),
        ),
        table(
            ["", "learning rate", "loss at the end", "first below the target", "ends at"],
            [
                [TITLES[name], plain(lr_rescaling if name in study.RESCALING else lr), written(float(w.losses[-1])),
                 ended(w, target), point(*w.points[-1])]
                for name, w in walks.items()
            ],
            title="How it ended",
        ),
    )  # fmt: skip
    gradient = where.slope(x0, y0, 0)
    formula = (
        rf"L(x, y) = {where.formula}, \quad L({number(x0)}, {number(y0)}) = {number(first)}, \quad "
        rf"\grad{{\nabla L}} = \left({number(gradient[0])},\ {number(gradient[1])}\right)"
    )
    data = {"last_losses": [w.losses[-1] for w in walks.values()]} | {
        f"{name}_path": w.points for name, w in walks.items()
    }
    return picture, said(walks, first, (x0, y0), steps, target), formula, data


def drawn(losses: np.ndarray) -> np.ndarray:
    """Losses for a logarithmic axis; what is below 10⁻¹² counts as that."""
    return np.maximum(losses, LOWEST_DRAWN)


def ended(w: Trajectory, target: float) -> str:
    if w.diverged is not None:
        return f"diverged at step {w.diverged}"
    took = w.steps_to(target)
    return "never" if took is None else f"step {took}"


def said(walks: dict[str, Trajectory], first: float, start: tuple[float, float], steps: int, target: float) -> str:
    """What the walks show now."""
    told = f"The start {point(*start)} has the loss {written(first)}."
    if not walks:
        return f"{told} Switch on at least one optimizer to see a walk."
    lost = {name: w for name, w in walks.items() if w.diverged is not None}
    kept = {name: float(w.losses[-1]) for name, w in walks.items() if name not in lost}
    after = f"{steps} step{'s' if steps > 1 else ''}"
    if kept:
        best = min(kept, key=lambda name: kept[name])
        rest = [f"{TITLES[name]} {written(loss)}" for name, loss in kept.items() if name != best]
        told += f" After {after} {{{{walk:{TITLES[best]}|{TITLES[best]}}}}} stands at {written(kept[best])}"
        told += f"; {listed(rest)}." if rest else "."
        up = [TITLES[name] for name, loss in kept.items() if loss > first]
        if up:
            told += f" {listed(up)} stand{'s' if len(up) == 1 else ''} higher than at the start."
    for name, w in lost.items():
        told += (
            f" {TITLES[name]} diverged: after step {w.diverged} its loss was {written(float(w.losses[-1]))}, "
            "and the walk was stopped."
        )
    took = {name: w.steps_to(target) for name, w in walks.items() if name not in lost}
    good = sorted((count, name) for name, count in took.items() if count is not None)
    if good and good[0][0] > 0:
        told += f" The target of {written(target)} was first passed by {TITLES[good[0][1]]}, at step {good[0][0]}."
    elif kept and not good:
        told += f" Nobody passed the target of {written(target)}."
    return told


# --- one step --------------------------------------------------------------------------------------------------------

STEP_SURFACES = {name: title for name, title in SURFACE_TITLES.items() if name != "noisy"}


@chapter.lab(
    "step",
    title="One step, written out",
    controls=[
        Choice("optimizer", "Optimizer", "adam", TITLES),
        Choice("surface", "The loss", "ravine", STEP_SURFACES),
        Slider("step", "Which step", 2, 1, 20),
        Slider("lr", "Learning rate η", 0.015, 0.001, 0.2, 0.001),
        Slider("beta1", "β₁, or momentum μ", 0.9, 0.1, 0.99, 0.01),
        Slider("beta2", "β₂", 0.999, 0.5, 0.999, 0.001),
        Slider("weight_decay", "Weight decay λ", 0, 0, 2, 0.05),
    ],
    runs=[study.written_step, engine.SGD.update, engine.RMSProp.update, engine.Adam.update, engine.Lion.update,
          engine.Muon.update, engine.orthogonalise],
    snippet="""
        from engine.descents import SURFACES
        from engine.optimizer_study import named, written_step

        optimizer = named({optimizer!r}, {lr}, {beta1}, {beta2}, {weight_decay})
        shown = written_step(optimizer, {optimizer!r}, {surface!r}, SURFACES[{surface!r}].start, {step})
        gradient, after = shown.gradient, shown.after
        print(shown)
    """,
    provenance="computed live; gradients by backpropagation",
    presets=[
        Preset("Adam's first step", {"optimizer": "adam", "step": 1, "weight_decay": 0, "surface": "ravine"},
               "Two gradients a hundred times apart, and both parameters move by η."),
        Preset("Momentum remembers", {"optimizer": "momentum", "step": 5, "weight_decay": 0, "surface": "ravine"},
               "The buffer is a decaying sum: it can be larger than any single gradient."),
        Preset("Lion: only signs", {"optimizer": "lion", "step": 3, "weight_decay": 0, "surface": "rosenbrock"},
               "Every parameter moves by exactly η, up or down."),
        Preset("Decay, decoupled", {"optimizer": "adamw", "step": 3, "weight_decay": 1, "surface": "bowl"},
               "The parameter shrinks first; the gradient knows nothing of it. Compare Adam."),
        Preset("Muon on a row", {"optimizer": "muon", "step": 2, "weight_decay": 0, "surface": "ravine"},
               "Two numbers are a matrix of one row. Made orthogonal, it has one length, whatever the slope."),
    ],
    height=400,
)  # fmt: skip
def step(
    optimizer: str, surface: str, step: int, lr: float, beta1: float, beta2: float, weight_decay: float
) -> tuple[Any, ...]:
    where = SURFACES[surface]
    made = study.named(optimizer, lr, beta1, beta2, weight_decay)
    now = study.written_step(made, optimizer, surface, where.start, step)
    lines, update = Lines(now, lr, beta1, beta2, weight_decay).written()
    rows = [
        ["parameter before", *map(float, now.before)],
        ["gradient of the loss", *map(float, now.gradient)],
        *[[f"{STATE_TITLES[key]} before", *map(float, value)] for key, value in now.state_before.items()],
        *[[f"{STATE_TITLES[key]} after", *map(float, value)] for key, value in now.state_after.items()],
        ["moved by", *map(float, now.after - now.before)],
        ["parameter after", *map(float, now.after)],
    ]
    moved = np.abs(now.after - now.before)
    gap = ratio_words(np.abs(now.gradient), "The slope")
    kept = len(now.state_after)
    holds = {
        0: "It keeps no state.",
        1: "It keeps one number for each parameter.",
        2: "It keeps two numbers for each parameter.",
    }[kept]
    sentence = (
        f"Step {step} of {TITLES[optimizer]}: the loss goes from {written(now.loss)} to {written(now.loss_after)}. "
        f"{gap} {ratio_words(moved, 'The move')} {holds}"
    )
    parts = [table(["", "x", "y"], rows, title=f"Step {step} of {TITLES[optimizer]}, all its numbers")]
    if lines:
        parts.append(math(*[mathml(line, block=True) for line in lines]))
    data = {"before": now.before, "gradient": now.gradient, "after": now.after}
    data |= {f"{key}_before": v for key, v in now.state_before.items()}
    data |= {f"{key}_after": v for key, v in now.state_after.items()}
    return stack(*parts), sentence, update, data


def ratio_words(sizes: np.ndarray, what: str) -> str:
    """Which of two sizes is larger, and how many times."""
    x, y = map(float, sizes)
    if min(x, y) == 0:
        return f"{what} is {written(x)} in x and {written(y)} in y."
    if max(x, y) / min(x, y) < 1.005:
        return f"{what} is equally large in x and y."
    large, times = ("y", y / x) if y > x else ("x", x / y)
    return f"{what} is {times:.3g} times larger in {large} than in {'xy'.replace(large, '')}."


# --- bias correction -------------------------------------------------------------------------------------------------


@chapter.lab(
    "first-steps",
    title="Adam's first steps, with and without the correction",
    controls=[
        Slider("beta1", "β₁", 0.9, 0, 0.99, 0.01),
        Slider("beta2", "β₂", 0.999, 0.5, 0.999, 0.001),
        Slider("noise", "Noise in the gradient", 0, 0, 3, 0.1),
        Slider("steps", "Steps", 60, 2, 200),
        Slider("seed", "Seed", 0, 0, 20),
    ],
    runs=[study.first_steps, engine.Adam.update],
    snippet="""
        from engine.optimizer_study import first_steps

        found = first_steps({beta1}, {beta2}, {noise}, {steps}, {seed})
        corrected, uncorrected = found.corrected, found.uncorrected
        print(uncorrected[:5])
    """,
    provenance="computed live: Adam on a gradient of 1, or of 1 plus noise",
    presets=[
        Preset("PyTorch's β", {"beta1": 0.9, "beta2": 0.999, "noise": 0, "steps": 60},
               "The mean of the squares needs a thousand steps to fill."),
        Preset("As language models are trained", {"beta1": 0.9, "beta2": 0.95, "noise": 0, "steps": 60},
               "A shorter memory fills sooner."),
        Preset("Too small instead", {"beta1": 0.99, "beta2": 0.9, "noise": 0, "steps": 200},
               "If the mean fills more slowly than the squares, the error goes the other way."),
        Preset("In noise", {"beta1": 0.9, "beta2": 0.999, "noise": 1, "steps": 60},
               "Every seed draws other noise. The first step is too long with all of them."),
    ],
    height=360,
)  # fmt: skip
def first_steps(beta1: float, beta2: float, noise: float, steps: int, seed: int) -> tuple[Any, ...]:
    found = study.first_steps(beta1, beta2, noise, steps, seed)
    times = np.arange(1, steps + 1)
    picture = curve(
        [("with the correction", times, found.corrected), ("without", times, found.uncorrected)],
        title="How far the parameter moves, in learning rates", x_label="step", y_label="step / η",
        tensors=["v", "grad"],
    )  # fmt: skip
    peak = int(np.argmax(np.abs(found.uncorrected)))
    first = float(found.uncorrected[0])
    sentence = (
        f"Without the correction the first step is {written(first)} learning rates long, with it "
        f"{written(float(found.corrected[0]))}. The longest of these {steps} without it is step {peak + 1}: "
        f"{written(float(found.uncorrected[peak]))}; with it the longest is "
        f"{written(float(np.max(np.abs(found.corrected))))}."
    )
    g = 1.0 + float(noise) * float(np.random.default_rng(seed).standard_normal()) if noise else 1.0
    formula = (
        rf"\frac{{m}}{{\sqrt{{v}}}} = \frac{{(1-\beta_1)\,\grad{{g}}}}{{\sqrt{{1-\beta_2}}\;|\grad{{g}}|}} = "
        rf"\frac{{{number(1 - beta1)}}}{{\sqrt{{{number(1 - beta2)}}}}} = "
        rf"{number((1 - beta1) / (1 - beta2) ** 0.5)} \quad \text{{at the first step, with }} \grad{{g}} = {number(g)}"
    )
    return picture, sentence, formula, {"corrected": found.corrected, "uncorrected": found.uncorrected}


# --- two kinds of decay ----------------------------------------------------------------------------------------------


@chapter.lab(
    "decay",
    title="Weight decay: inside Adam, or beside it",
    controls=[
        Slider("lr", "Learning rate η", 0.01, 0.001, 0.05, 0.001),
        Slider("weight_decay", "Weight decay λ", 0.5, 0, 2, 0.05),
        Slider("ratio", "How many times larger the large gradients are", 20, 1, 100),
        Slider("steps", "Steps", 150, 1, 200),
        Slider("seed", "Seed", 0, 0, 20),
    ],
    runs=[study.decay, engine.Adam.update],
    snippet="""
        from engine.optimizer_study import decay

        found = decay({lr}, {weight_decay}, {ratio}, {steps}, {seed})
        adam_large, adam_small = found.large["adam"], found.small["adam"]
        adamw_large, adamw_small = found.large["adamw"], found.small["adamw"]
        print(adam_large[-1], adam_small[-1], adamw_large[-1], adamw_small[-1])
    """,
    provenance=f"computed live: {2 * study.COPIES} weights whose gradients are noise around 0",
    presets=[
        Preset("Different gradients", {"ratio": 20, "weight_decay": 0.5, "lr": 0.01, "steps": 150},
               "In Adam the small-gradient weights collapse, the others hardly move. AdamW treats both alike."),
        Preset("The same gradients", {"ratio": 1, "weight_decay": 0.5, "lr": 0.01, "steps": 150},
               "Nothing tells the two groups apart, so each optimizer treats them alike."),
        Preset("No decay", {"ratio": 20, "weight_decay": 0, "lr": 0.01, "steps": 150},
               "The two are one and the same optimizer."),
    ],
    height=370,
)  # fmt: skip
def decay(lr: float, weight_decay: float, ratio: int, steps: int, seed: int) -> tuple[Any, ...]:
    found = study.decay(lr, weight_decay, ratio, steps, seed)
    times = np.arange(steps + 1)
    expected = (1 - lr * weight_decay) ** steps
    picture = curve(
        [("Adam, large gradients", times, found.large["adam"]), ("Adam, small", times, found.small["adam"]),
         ("AdamW, large gradients", times, found.large["adamw"]), ("AdamW, small", times, found.small["adamw"])],
        title=f"The mean of {study.COPIES} weights each", x_label="step", y_label="mean weight",
        tensors=["v", "v", "attn", "attn"],
    )  # fmt: skip
    last = {
        (group, name): float(getattr(found, group)[name][-1]) for group in ("large", "small") for name in found.large
    }
    apart = abs(last["large", "adam"] - last["small", "adam"])
    close = abs(last["large", "adamw"] - last["small", "adamw"])
    sentence = (
        f"All began at 1. In Adam, weights with large gradients now average {three(last['large', 'adam'])} and those "
        f"with small ones {three(last['small', 'adam'])}: {three(apart)} apart. In AdamW: "
        f"{three(last['large', 'adamw'])} and {three(last['small', 'adamw'])}, {three(close)} apart, where the decay "
        f"alone gives {three(expected)}."
    )
    formula = (
        rf"(1 - \eta\lambda)^{{{steps}}} = (1 - {number(lr)} \cdot {number(weight_decay)})^{{{steps}}} = "
        rf"{number(expected)}"
    )
    data = {f"{name}_{group}": getattr(found, group)[name] for group in ("large", "small") for name in found.large}
    return picture, sentence, formula, data


def three(value: float) -> str:
    """Three decimals, and no minus at zero."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", MINUS)


# --- schedules -------------------------------------------------------------------------------------------------------


@chapter.lab(
    "schedule",
    title="A learning rate that changes",
    controls=[
        Choice("name", "Schedule", "cosine", SCHEDULE_TITLES),
        Choice("optimizer", "Optimizer", "sgd", {name: TITLES[name] for name in ("sgd", "momentum", "adam", "lion")}),
        Slider("peak", "Highest learning rate", 0.3, 0.01, 1, 0.01),
        Slider("warmup", "Warm-up steps", 10, 0, 100),
        Slider("floor", "Ends at this share of the highest", 0, 0, 1, 0.05),
        Slider("fall", "Last part that falls (warm-up, stable, decay)", 0.2, 0.05, 1, 0.05),
        Slider("steps", "Steps", 200, 20, 300),
    ],
    runs=[engine.schedule, study.scheduled],
    snippet="""
        from engine.optimizer_study import scheduled

        run = scheduled({name!r}, {optimizer!r}, {steps}, peak={peak}, warmup={warmup}, floor={floor}, fall={fall})
        rates, losses = run.rates, run.walk.losses
        print(losses[-20:].mean())
    """,
    provenance="computed live: a line fitted to 64 points, 4 of them at each step",
    presets=[
        Preset("Cosine", {"name": "cosine", "peak": 0.3, "warmup": 10, "floor": 0, "optimizer": "sgd", "steps": 200},
               "Large steps while there is far to go, small ones while noise is all that is left."),
        Preset("Constant", {"name": "constant", "peak": 0.3, "warmup": 10, "optimizer": "sgd", "steps": 200},
               "As fast at first. Then it keeps being thrown about."),
        Preset("Stable, then decay", {"name": "wsd", "peak": 0.3, "warmup": 10, "floor": 0, "fall": 0.2,
               "optimizer": "sgd", "steps": 200}, "The loss falls at the very end, with the rate. SmolLM2's schedule."),
        Preset("Signs only", {"name": "constant", "peak": 0.1, "warmup": 0, "optimizer": "lion", "steps": 200},
               "A step of sign keeps its size however flat the ground is: without a schedule it cannot settle."),
    ],
    height=320,
)  # fmt: skip
def schedule(
    name: str, optimizer: str, peak: float, warmup: int, floor: float, fall: float, steps: int
) -> tuple[Any, ...]:
    run = study.scheduled(name, optimizer, steps, peak=peak, warmup=warmup, floor=floor, fall=fall)
    flat = study.scheduled("constant", optimizer, steps, peak=peak, warmup=warmup)
    lowest = SURFACES["noisy"].target - SURFACES["noisy"].margin
    times = np.arange(steps)
    over = {key: np.maximum(r.walk.losses - lowest, LOWEST_DRAWN) for key, r in (("now", run), ("flat", flat))}
    lines = [("constant after the warm-up", np.arange(len(over["flat"])), over["flat"])]
    if name != "constant":
        lines.insert(0, (SCHEDULE_TITLES[name], np.arange(len(over["now"])), over["now"]))
    picture = row(
        curve([(SCHEDULE_TITLES[name], times, run.rates)], title="The learning rate at each step", x_label="step",
              y_label="learning rate", tensors=["logits"]),
        curve(lines, title="How far the loss is above the lowest possible", x_label="step", y_label="excess loss (log)",
              log_y=True, tensors=["q", "resid"] if name != "constant" else ["resid"]),
    )  # fmt: skip
    tail = min(20, steps)
    ends = {key: float(np.mean(values[-tail:])) for key, values in over.items()}
    sentence = (
        f"No line fits better than a loss of {written(lowest)}. Over the last {tail} steps the run with "
        f"“{SCHEDULE_TITLES[name]}” is on average {written(ends['now'])} above that"
    )
    if name != "constant":
        sentence += f", the one with a constant rate {written(ends['flat'])}"
    sentence += "."
    for r, words in ((run, SCHEDULE_TITLES[name]), (flat, "constant")):
        if r.walk.diverged is not None and (r is run or name != "constant"):
            sentence += f" The run with “{words}” diverged at step {r.walk.diverged}."
    data = {"rates": run.rates, "losses": run.walk.losses, "constant_losses": flat.walk.losses}
    return picture, sentence, rate_formula(name, peak, warmup, floor, fall, steps), data


def rate_formula(name: str, peak: float, warmup: int, floor: float, fall: float, steps: int) -> str:
    """The rate halfway, as the schedule gives it."""
    t = steps // 2
    rate = engine.schedule(name, t, peak=peak, total=steps, warmup=warmup, floor=floor, decay=round(fall * steps))
    start = max(warmup, steps - round(fall * steps)) if name == "wsd" else warmup
    if t < warmup:
        return rf"\eta_{{{t}}} = {number(peak)} \cdot \frac{{{t}}}{{{warmup}}} = {number(rate)}"
    if name == "constant" or t <= start:
        return rf"\eta_{{{t}}} = {number(rate)}"
    share = rf"\frac{{{t} - {start}}}{{{steps} - {start}}}"
    part = rf"\tfrac12\left(1 + \cos \pi {share}\right)" if name == "cosine" else rf"\left(1 - {share}\right)"
    inner = part if not floor else rf"\left({number(floor)} + {number(1 - floor)} \cdot {part}\right)"
    return rf"\eta_{{{t}}} = {number(peak)} \cdot {inner} = {number(rate)}"


# --- Muon ------------------------------------------------------------------------------------------------------------


@chapter.lab(
    "matrix",
    title="Muon: a gradient made orthogonal",
    controls=[
        Slider("spread", "Common features are so many times larger than rare ones", 20, 1, 100),
        Slider("ns_steps", "Newton-Schulz steps", 5, 0, 10),
        Slider("rows", "Rows (outputs)", 4, 1, 8),
        Slider("columns", "Columns (inputs)", 6, 1, 8),
        Slider("seed", "Seed", 0, 0, 20),
    ],
    runs=[engine.orthogonalise, study.layer_gradient, study.levelled],
    snippet="""
        from engine.optimizer_study import layer_gradient, levelled
        from engine.optimizers import orthogonalise

        gradient = layer_gradient({rows}, {columns}, {spread}, {seed})
        update = orthogonalise(gradient, {ns_steps})
        singular = levelled(gradient, {ns_steps})
        print(singular[-1])
    """,
    provenance="the gradient of a linear layer on 64 examples, by backpropagation; computed live",
    presets=[
        Preset("One loud direction", {"spread": 20, "ns_steps": 5, "rows": 4, "columns": 6},
               "The gradient is nearly all one direction. After five steps all count alike."),
        Preset("Before any step", {"spread": 20, "ns_steps": 0, "rows": 4, "columns": 6},
               "Only divided by its length: what SGD would follow."),
        Preset("Too rare", {"spread": 100, "ns_steps": 5, "rows": 6, "columns": 6},
               "A singular value far below a thousandth does not reach 1 in five steps."),
        Preset("A single row", {"spread": 20, "ns_steps": 5, "rows": 1, "columns": 6},
               "One row has one singular value: only its length changes."),
    ],
    height=330,
)  # fmt: skip
def muon(spread: int, ns_steps: int, rows: int, columns: int, seed: int) -> tuple[Any, ...]:
    gradient = study.layer_gradient(rows, columns, spread, seed)
    update = engine.orthogonalise(gradient, ns_steps)
    singular = study.levelled(gradient, ns_steps)
    labels = [f"{i + 1}" for i in range(singular.shape[1])]
    limit = max(1.0, float(singular.max()))
    picture = stack(
        row(
            matrix(gradient, "The gradient", "grad", "gradient", digits=3),
            sign("→"),
            matrix(update, "Muon's step", "q", "update", digits=3),
        ),
        row(
            bars(labels, singular[0], title="Its singular values, divided by its length", tensor="grad", limit=limit),
            bars(labels, singular[-1], title=f"… after {ns_steps} steps", tensor="q", limit=limit),
        ),
    )
    before, after = singular[0], singular[-1]
    first = f"The largest singular value was {written(float(before[0]))}"
    if len(before) > 1:
        first += f" and the smallest {written(float(before[-1]))}, {written(float(before[0] / before[-1]))} times less"
    steps = f"{ns_steps} step{'' if ns_steps == 1 else 's'}"
    spans = f"they lie between {written(float(after.min()))} and {written(float(after.max()))}"
    one = f"it is {written(float(after[0]))}"
    sentence = f"{first}. After {steps} {spans if len(after) > 1 else one}."
    a, b, c = engine.NEWTON_SCHULZ
    chain = r" \to ".join(number(float(values.min()), 3) for values in singular)
    formula = rf"s \leftarrow {a}\,s - {-b}\,s^3 + {c}\,s^5, \quad \text{{the smallest: }} {chain}"
    return picture, sentence, formula, {"gradient": gradient, "update": update, "singular": singular}


# --- the same training with each -------------------------------------------------------------------------------------

CURVES = {
    "sine": "a sine", "bump": "a bump", "step": "a step", "zigzag": "a zigzag", "chirp": "a faster and faster wave",
}  # fmt: skip
assert set(CURVES) == set(TARGETS)
RATE_TITLES = {"best": "each with its own best"} | {str(i): f"{rate:.2g} for all" for i, rate in enumerate(study.RATES)}


@chapter.lab(
    "training",
    title="The same network, trained with each",
    controls=[
        Choice("target", "What it learns", "sine", CURVES),
        Choice("rate", "Learning rate", "best", RATE_TITLES),
        Choice("start", "Starting weights", "0", {"0": "first draw", "1": "second draw", "2": "third draw"}),
    ],
    runs=[study.sweep, study.fit_losses, study.named],
    snippet="""
        from engine.optimizer_study import sweep

        found = sweep({target!r}, {start})
        last_losses = found.losses[:, :, -1]
        print(found.names, found.rates, last_losses, sep="\\n")
    """,
    provenance=f"computed live: {len(study.NAMES) * len(study.RATES)} networks of {study.NEURONS} ReLU neurons, "
    f"{study.TRAINING_STEPS} steps each, gradients by backpropagation",
    presets=[
        Preset(
            "Each at its best", {"target": "sine", "rate": "best"}, "The fair comparison: seven rates tried for each."
        ),
        Preset("0.1 for all", {"target": "sine", "rate": "4"}, "The same rate is right for some and ruin for others."),
        Preset("0.001 for all", {"target": "sine", "rate": "0"}, "Too slow for all, and slowest for plain SGD."),
    ],
    height=520,
)
def training(target: str, rate: str, start: str) -> tuple[Any, ...]:
    found = study.sweep(target, int(start))
    chosen = {name: found.best(name) if rate == "best" else int(rate) for name in found.names}
    paths = {name: found.curve(name, place) for name, place in chosen.items()}
    tensors = [COLOURS[name] for name in found.names]
    times = np.arange(found.losses.shape[-1])
    finite = {name: visible(path) for name, path in paths.items()}
    ends = np.array([[visible(line)[-1] for line in lines] for lines in found.losses])
    picture = stack(
        row(
            curve([(TITLES[name], times, finite[name]) for name in found.names], title="The loss after each step",
                  x_label="step", y_label="loss (log)", log_y=True, tensors=tensors),
            curve([(TITLES[name], found.rates, ends[i]) for i, name in enumerate(found.names)], log_x=True, log_y=True,
                  title="The last loss for each learning rate", x_label="learning rate", y_label="last loss (log)",
                  tensors=tensors, points=True),
        ),
        table(
            ["", "learning rate", f"loss after {len(times) - 1} steps"],
            [[TITLES[name], f"{found.rates[chosen[name]]:.2g}", loss_words(paths[name][-1])] for name in found.names],
            title="How it ended",
        ),
    )  # fmt: skip
    order = sorted((n for n in found.names if paths[n][-1] < paths[n][0]), key=lambda n: paths[n][-1])
    failed = [TITLES[n] for n in found.names if not paths[n][-1] < paths[n][0]]
    says = f"All start with a loss of {written(float(paths['sgd'][0]))}."
    if order:
        says += f" After {len(times) - 1} steps {TITLES[order[0]]} is lowest with {written(float(paths[order[0]][-1]))}"
        says += f", {TITLES[order[-1]]} highest of those that fell: {written(float(paths[order[-1]][-1]))}." if len(
            order) > 1 else "."  # fmt: skip
    if failed:
        says += f" {listed(failed)} ended no lower than at the start, or diverged."
    data = {"last_losses": found.losses[:, :, -1], "losses": np.array([paths[name] for name in found.names])}
    best = order[0] if order else "sgd"
    formula = (
        rf"L = \frac{{1}}{{{study.PLACES}}}\sum_i (\hat y_i - y_i)^2, \quad L_0 = {number(float(paths[best][0]))} \to "
        rf"L_{{{len(times) - 1}}} = {number(float(paths[best][-1]))} \quad \text{{({TITLES[best]})}}"
    )
    return picture, says, formula, data


def visible(losses: np.ndarray) -> np.ndarray:
    """Losses as far as a chart can show them: above a hundred, or no number at all, is a hundred."""
    return np.where(np.isfinite(losses), np.minimum(losses, 100.0), 100.0)


def loss_words(value: float) -> str:
    return written(float(value)) if np.isfinite(value) and value < 1e6 else "diverged"


# --- memory ----------------------------------------------------------------------------------------------------------


@chapter.lab(
    "memory",
    title="What an optimizer keeps in memory",
    controls=[Choice("model", "Model", "SmolLM2-135M", {name: name for name in CONFIGS})],
    runs=[study.slots, study.state_numbers],
    snippet="""
        from engine.ledger import CONFIGS
        from engine.optimizer_study import NAMES, state_numbers

        kept = [state_numbers(CONFIGS[{model!r}], name) for name in NAMES]
        print(dict(zip(NAMES, kept)))
    """,
    provenance="parameters by the ledger of chapter 11; state counted after a real step of each optimizer",
    presets=[
        Preset("SmolLM2", {"model": "SmolLM2-135M"}, "Small enough that none of this matters."),
        Preset("Llama 3.1 70B", {"model": "Llama 3.1 70B"}, "The state alone fills several large GPUs."),
    ],
    height=300,
)
def memory(model: str) -> tuple[Any, ...]:
    config = CONFIGS[model]
    total = total_parameters(config)
    kept = [study.state_numbers(config, name) for name in study.NAMES]
    size = [4 * numbers / GB for numbers in kept]
    picture = stack(
        readouts([("parameters", f"{total:,}"), ("weights in float32", f"{4 * total / GB:,.3g} GB")]),
        bars([TITLES[name] for name in study.NAMES], size, title="The optimizer's state, float32", tensor="resid",
             texts=[f"{gigabytes:,.3g} GB" for gigabytes in size],
             notes=[f"{numbers:,} numbers" for numbers in kept]),
    )  # fmt: skip
    adamw, muon = (kept[study.NAMES.index(name)] for name in ("adamw", "muon"))
    sentence = (
        f"{model} has {total:,} parameters. AdamW keeps {adamw:,} numbers beside them, {4 * adamw / GB:,.3g} GB in "
        f"float32; Muon keeps {muon:,}, {1 - muon / adamw:.0%} less, since its matrices need one number each and only "
        "embeddings, norms and the output layer go to AdamW."
    )
    formula = rf"2 \cdot {total:,} \cdot 4 \text{{ bytes}} = {8 * total:,} \text{{ bytes for AdamW}}".replace(
        ",", r"\,"
    )
    return picture, sentence, formula, {"kept": kept, "parameters": total}


# --- numbers of the prose --------------------------------------------------------------------------------------------


def ravine(name: str, lr: float = 0.015) -> Trajectory:
    return descents.trajectory(study.named(name, lr), "ravine", (-1.0, 1.0), 100)


@chapter.number
def sgd_end() -> str:
    return f"{ravine('sgd').losses[-1]:.3g}"


@chapter.number
def momentum_end() -> str:
    return written(float(f"{ravine('momentum').losses[-1]:.2g}"))


@chapter.number
def adam_end() -> str:
    return written(float(f"{ravine('adam', 0.05).losses[-1]:.2g}"))


@chapter.number
def adam_turned() -> str:
    walked = descents.trajectory(study.named("adam", 0.05), "turned", SURFACES["turned"].start, 100)
    return f"{walked.losses[-1]:.2g}"


@chapter.number
def times_lower() -> str:
    return f"{ravine('sgd').losses[-1] / ravine('momentum').losses[-1]:.0f}"


@chapter.number
def nesterov_falls() -> int:
    fallen = ravine("nesterov").diverged
    assert fallen is not None
    return fallen


@chapter.number
def edge_sgd() -> str:
    return plain(study.edge_of_stability("sgd", 100))


@chapter.number
def edge_momentum() -> str:
    return plain(round(study.edge_of_stability("momentum", 100), 4))


@chapter.number
def edge_nesterov() -> str:
    return plain(round(study.edge_of_stability("nesterov", 100), 4))


@chapter.number
def best_momentum() -> str:
    """The heavy ball's optimum for curvatures 1 and 100 (Polyak 1964), as near as the sliders come to it."""
    lr, beta = 4 / (1 + 10) ** 2, ((10 - 1) / (10 + 1)) ** 2
    optimizer = engine.SGD(round(2000 * lr) / 2000, round(beta, 2))
    return str(descents.trajectory(optimizer, "ravine", (-1.0, 1.0), 100).steps_to(1e-3))


@chapter.number
def second_gradient() -> str:
    """The gradients in y that the second step of SGD and of momentum with Nesterov see."""
    seen = [ravine(name).gradients[1][1] for name in ("sgd", "nesterov")]
    return f"{plain(seen[0])} and {plain(round(seen[1], 4))}"


@chapter.number
def without_correction() -> str:
    return f"{study.first_steps(0.9, 0.999, 0, 1).uncorrected[0]:.2f}"


@chapter.number
def without_correction_peak() -> str:
    return f"{study.first_steps(0.9, 0.999, 0, 60).uncorrected.max():.1f}"


@chapter.number
def parameters() -> int:
    return total_parameters(SMOLLM2)


@chapter.number
def adamw_gigabytes() -> str:
    return f"{4 * study.state_numbers(SMOLLM2, 'adamw') / GB:.3g}"


@chapter.number
def weights_gigabytes() -> str:
    return f"{4 * total_parameters(SMOLLM2) / GB:.3g}"


@chapter.number
def muon_gigabytes() -> str:
    return f"{4 * study.state_numbers(SMOLLM2, 'muon') / GB:.3g}"


@chapter.number
def llama_terabytes() -> str:
    return f"{4 * study.state_numbers(CONFIGS['Llama 3.1 70B'], 'adamw') / GB:,.0f}"


# --- check yourself --------------------------------------------------------------------------------------------------


@chapter.answer
def where_sgd_breaks() -> float:
    return study.edge_of_stability("sgd", 100)


@chapter.answer
def adam_scaled() -> float:
    """How many times further Adam's second step goes when the loss is multiplied by 1000."""

    def second_step(size: float) -> float:
        walked = descents.trajectory(engine.Adam(0.05), lambda p: size * SURFACES["ravine"](p), (-1.0, 1.0), 2)
        return float(np.linalg.norm(walked.points[2] - walked.points[1]))

    return second_step(1000.0) / second_step(1.0)


@chapter.answer
def bytes_kept() -> float:
    """Bytes of AdamW's state for each parameter, in float32."""
    return 4.0 * study.slots("adamw")


# --- before the first reader ------------------------------------------------------------------------------------------


def prepare() -> None:
    """The batches of the noisy surface, and the training of 56 networks, which takes about a second."""
    for step_of in range(300):
        descents.moments(step_of)
    compute(chapter.labs["training"], {})


BOOK.before_serving.append(prepare)

register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
