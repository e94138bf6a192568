"""Training, second half: what the data does, learning by heart long before the rule, and sweeps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from engine import data_study as data
from engine import modular_addition as modular
from engine import phases as phase_rules
from engine import recorded_addition as recorded
from engine import scaling, sweep
from engine.corpora import Corpus, synthetic, text_corpus
from engine.gpt import GPT
from engine.modular_addition import Setting
from engine.training import Plan, Step
from pages._training_chapter import chapter
from pages._training_scaling import CHINCHILLA, big, power
from ui.controls import Choice, Slider, Text
from ui.figures import curve, histogram, plane, row, stack, table
from ui.jobs.work import Long, Progress, Steps
from ui.lab import Preset, ReaderError
from ui.mathml import number

MINUS = "−"
CONTEXT = 32


def small_gpt(corpus: Corpus) -> GPT:
    """The model of both studies of data: one block, so that several fit side by side into a job."""
    return GPT(len(corpus.vocabulary), layers=1, width=32, heads=8, context=CONTEXT)


def study_plan(steps: int, seed: int) -> Plan:
    return Plan(
        steps=steps, batch=16, learning_rate=1e-2, warmup=20, seed=2 * seed, evaluate_every=max(10, steps // 10),
        held_out=64,
    )  # fmt: skip


def spread(values: tuple[float, ...]) -> str:
    """The results of several seeds."""
    return " · ".join(f"{value:.3f}" for value in values)


# --- epochs ----------------------------------------------------------------------------------------------------------

SETS = (32, 128, 512, 2048)
FRESH = "always fresh"


@chapter.lab(
    "epochs",
    title="The same steps on few texts and on many",
    controls=[
        Choice("steps", "Steps", "400", {"50": "50", "200": "200", "400": "400"}),
        Slider("seed", "Seed", 0, 0, 9),
    ],
    runs=[data.compare, data.limited, data.epochs],
    snippet="""
        from engine.corpora import synthetic
        from engine.data_study import compare, held_out, limited, windows_of
        from engine.gpt import GPT
        from engine.training import Plan

        corpus = synthetic()
        sets = {{str(n): limited(corpus, windows_of(corpus, n, 32)) for n in (32, 128, 512, 2048)}}
        gpt = GPT(len(corpus.vocabulary), layers=1, width=32, heads=8, context=32)
        steps = int({steps!r})
        plan = Plan(steps=steps, batch=16, learning_rate=1e-2, warmup=20, seed=2 * {seed},
                    evaluate_every=max(10, steps // 10), held_out=64)
        for last in compare(gpt, plan, sets | {{"always fresh": corpus}}, repeats=2):
            pass
        final = [held_out(runs) for runs in last.values()]
        print(final)
    """,
    provenance="Ten small models trained live by the engine on the grammar",
    presets=[
        Preset("Other chance", {"seed": 3}, "Which differences stay when first weights and batches are others?"),
        Preset("Half the steps", {"steps": "200", "seed": 0}, "Is a small set as harmful when training ends early?"),
    ],
    height=120,
    long=Long(seconds=300, takes="20 seconds to 2 minutes", quick={"steps": "50"}),
)
def epochs_compared(steps: str, seed: int) -> Steps:
    corpus, plan = synthetic(), study_plan(int(steps), seed)
    sets = {str(n): data.limited(corpus, data.windows_of(corpus, n, CONTEXT)) for n in SETS} | {FRESH: corpus}
    seen: list[dict[str, tuple[Step, ...]]] = []
    for now in data.compare(small_gpt(corpus), plan, sets, repeats=2):
        at = now[FRESH][0].number
        looked = now[FRESH][0].validation is not None
        seen = [*seen, now] if looked else seen
        yield Progress(
            at / plan.steps, f"Step {at} of {plan.steps}", epochs_shown(corpus, plan, seen) if looked and at else None
        )
    return epochs_shown(corpus, plan, seen)


def epochs_shown(corpus: Corpus, plan: Plan, seen: list[dict[str, tuple[Step, ...]]]) -> tuple[Any, ...]:
    at, names = [now[FRESH][0].number for now in seen], list(seen[0])
    losses = {name: np.array([data.held_out(now[name]) for now in seen]) for name in names}
    final = {name: values[-1] for name, values in losses.items()}
    learned = {name: float(np.mean([run.loss for run in seen[-1][name]])) for name in names}
    floor = corpus.floor(CONTEXT) if corpus.floor else 0.0
    often = {name: data.epochs(replace(plan, steps=at[-1]), int(name)) if name != FRESH else 1.0 for name in names}
    picture = stack(
        curve(
            [(named(name), at, np.mean(losses[name], axis=1)) for name in names],
            title=f"Held-out loss, mean of {len(final[FRESH])} runs each",
            x_label="steps",
            y_label="nats a word",
            tensors=["grad", "ffn", "q", "attn", "logits"],
            log_y=True,
        ),
        table(
            ["trained on", "each seen", "last batch", "held out", "each run"],
            [
                [named(name), f"{often[name]:.3g} ×" if name != FRESH else "once", f"{learned[name]:.3f}",
                 f"{np.mean(final[name]):.3f}", spread(tuple(final[name]))]
                for name in names
            ],
            title=f"After {at[-1]} steps of {plan.batch} windows (nats a word; the floor is {floor:.3f})",
        ),
    )  # fmt: skip
    means = {name: float(np.mean(values)) for name, values in final.items()}
    chance = max(float(np.ptp(values)) for name, values in final.items() if name != "32")
    close = [name for name in names if name != FRESH and means[name] - means[FRESH] < 0.05]
    text = (
        f"With {{{{few|32 windows}}}} the model has read each of them {often['32']:.3g} times: it loses "
        f"{learned['32']:.2f} on what it trains on, and {means['32']:.2f} on new text. With fresh text it loses "
        f"{means[FRESH]:.2f} on new text. "
        + (
            f"Within 0.05 of that: {listed([f'{n} windows ({often[n]:.2g} times each)' for n in close])}. "
            if close
            else "None of the limited sets comes within 0.05 of that. "
        )
        + f"Two runs that differ by chance alone lie up to {chance:.2f} apart, so smaller differences say nothing."
    )
    formula = (
        rf"\text{{epochs}} = \frac{{\text{{steps}} \cdot \text{{batch}}}}{{\text{{windows}}}} = "
        rf"\frac{{{at[-1]} \cdot {plan.batch}}}{{32}} = {number(often['32'])}"
    )
    return picture, text, formula, {"final": np.array([final[n] for n in names]), "windows": np.array(SETS, float)}


def named(name: str) -> str:
    return name if name == FRESH else f"{name} windows"


def listed(parts: list[str]) -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


# --- duplicates ------------------------------------------------------------------------------------------------------

UNIQUE = 2000
COPIES = (1, 10, 100, 1000)


@chapter.lab(
    "duplicates",
    title="A few texts, copied",
    controls=[
        Choice(
            "share", "Copied", "0.01", {"0.005": "10 of 2,000 windows", "0.01": "20 windows", "0.05": "100 windows"}
        ),
        Choice("steps", "Steps", "400", {"50": "50", "200": "200", "400": "400"}),
        Slider("seed", "Seed", 0, 0, 9),
    ],
    runs=[data.with_copies, data.report, data.compare],
    snippet="""
        from engine.corpora import synthetic
        from engine.data_study import compare, held_out, limited, windows_of, with_copies
        from engine.gpt import GPT
        from engine.training import Plan

        corpus, steps = synthetic(), int({steps!r})
        windows = windows_of(corpus, 2000, 32)
        sets = {{str(k): limited(corpus, with_copies(windows, float({share!r}), k)[0]) for k in (1, 10, 100, 1000)}}
        gpt = GPT(len(corpus.vocabulary), layers=1, width=32, heads=8, context=32)
        plan = Plan(steps=steps, batch=16, learning_rate=1e-2, warmup=20, seed=2 * {seed},
                    evaluate_every=max(10, steps // 10), held_out=64)
        for last in compare(gpt, plan, sets, repeats=2):
            pass
        final = [held_out(runs) for runs in last.values()]
        print(final)
    """,
    provenance="Eight small models trained live by the engine on the grammar",
    presets=[
        Preset("Fewer copied", {"share": "0.005"}, "Ten windows of two thousand. Does new text still suffer?"),
        Preset(
            "Many copied",
            {"share": "0.05"},
            "A hundred windows, each seen less often. How much of them is learned by heart?",
        ),
    ],
    height=120,
    long=Long(seconds=300, takes="20 seconds to 2 minutes", quick={"steps": "50"}),
)
def duplicates(share: str, steps: str, seed: int) -> Steps:
    corpus, plan, part = synthetic(), study_plan(int(steps), seed), float(share)
    windows = data.windows_of(corpus, UNIQUE, CONTEXT)
    sets = {str(k): data.limited(corpus, data.with_copies(windows, part, k)[0]) for k in COPIES}
    gpt = small_gpt(corpus)
    seen: list[dict[str, tuple[Step, ...]]] = []
    for now in data.compare(gpt, plan, sets, repeats=2):
        at, looked = now["1"][0].number, now["1"][0].validation is not None
        seen = [*seen, now] if looked else seen
        shown = duplicates_shown(gpt, plan, seen, windows, part) if looked and at else None
        yield Progress(at / plan.steps, f"Step {at} of {plan.steps}", shown)
    return duplicates_shown(gpt, plan, seen, windows, part)


def duplicates_shown(
    gpt: GPT, plan: Plan, seen: list[dict[str, tuple[Step, ...]]], windows: data.Windows, share: float
) -> tuple[Any, ...]:
    at = [now["1"][0].number for now in seen]
    found = [
        data.report(str(k), gpt, replace(plan, steps=at[-1]), seen[-1][str(k)], windows, share, k) for k in COPIES
    ]  # fmt: skip
    picture = stack(
        curve(
            [(times(r.name), at, [np.mean(data.held_out(now[r.name])) for now in seen]) for r in found],
            title="Held-out loss, mean of two runs each",
            x_label="steps",
            y_label="nats a word",
            tensors=["logits", "q", "ffn", "grad"],
            log_y=True,
        ),
        table(
            ["copied windows stand there", "seen", "others seen", "copied", "others", "held out", "each run"],
            [
                [times(r.name), f"{r.looks[0]:.3g} ×", f"{r.looks[1]:.2g} ×", f"{np.mean(r.copied):.3f}",
                 f"{np.mean(r.single):.3f}", f"{r.mean:.3f}", spread(r.held_out)]
                for r in found
            ],
            title=f"Loss after {at[-1]} steps (nats a word)",
        ),
    )  # fmt: skip
    clean, worst = found[0], found[-1]
    chance = max(float(np.ptp(r.held_out)) for r in found)
    change = worst.mean - clean.mean
    share_of_draws = worst.looks[0] * round(share * UNIQUE) / (at[-1] * plan.batch)
    text = (
        f"At 1,000 copies, {share_of_draws:.0%} of all that the model reads is those {round(share * UNIQUE)} windows. "
        f"It loses {np.mean(worst.copied):.2f} on them and {worst.mean:.2f} on new text. Removing the copies, with "
        f"as many steps, brings the loss on new text "
        + (
            f"down to {{{{clean|{clean.mean:.2f}}}}}"
            if change > chance
            else f"to {{{{clean|{clean.mean:.2f}}}}}, no more of a difference than chance makes"
        )
        + f". Runs that differ by chance alone lie up to {chance:.2f} apart."
    )
    formula = (
        rf"\text{{share}} = \frac{{c\,k}}{{c\,k + s}} = \frac{{{round(share * UNIQUE)} \cdot 1000}}"
        rf"{{{round(share * UNIQUE)} \cdot 1000 + {UNIQUE - round(share * UNIQUE)}}} = {number(share_of_draws, 3)}"
    )
    return picture, text, formula, {
        "final": np.array([r.held_out for r in found]), "copied": np.array([r.copied for r in found]),
        "single": np.array([r.single for r in found]),
    }  # fmt: skip


def times(copies: str) -> str:
    return "once" if copies == "1" else f"{int(copies):,} times"


# --- learning by heart long before the rule --------------------------------------------------------------------------

SHOWN_CIRCLES = 8
PHASE_WORDS = {
    "memorising": "It is memorising",
    "plateau": "It is on the plateau",
    "generalising": "It is generalising",
    "general": "It has generalised",
}


def curves_of(looks: list[modular.Look]) -> phase_rules.Curves:
    steps = np.array([now.step for now in looks])
    return phase_rules.Curves(steps, *np.array([now.accuracy for now in looks]).T)


def addition_curves(
    steps: Any, loss: Any, accuracy: Any, norm: Any, marker: int | None = None, thin: int = 1
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Accuracy, loss and norm of a run of modular addition, with a marker at one of its looks."""
    kept = slice(None, None, thin)
    at = steps[kept]

    def drawn(parts: list[tuple[str, Any, str]], title: str, y_label: str, log_y: bool = False) -> dict[str, Any]:
        last = parts[-1][1]
        return curve(
            [(name, at, values[kept]) for name, values, _ in parts],
            title=title,
            x_label="steps",
            y_label=y_label,
            tensors=[tensor for *_, tensor in parts],
            marker=None if marker is None else (float(steps[marker]), float(last[marker])),
            log_y=log_y,
        )

    two = [("trained on", 0, "attn"), ("held out", 1, "logits")]
    return (
        drawn([(name, accuracy[:, i], t) for name, i, t in two], "Share of right answers", "share"),
        drawn([(name, np.maximum(loss[:, i], 1e-5), t) for name, i, t in two], "Loss", "nats", log_y=True),
        drawn([("norm", norm, "resid")], "Length of all weights", "norm"),
    )


def phase_table(phases: list[phase_rules.Phase], now: int | None = None) -> dict[str, Any]:
    rules = {
        "memorising": "until training reaches 99 %",
        "plateau": "until held out stays above 25 %",
        "generalising": "until held out first reaches 95 %",
        "general": "the rest",
    }
    here = [i for i, p in enumerate(phases) if now is not None and p.start <= now < p.end] or (
        [len(phases) - 1] if now is not None else []
    )
    return table(
        ["phase", "steps", "rule"],
        [[p.name, f"{p.start:,} to {p.end:,}", rules[p.name]] for p in phases],
        title="Phases, by the rule",
        marked=here,
    )


@chapter.lab(
    "late",
    title="The recorded run, step by step",
    controls=[
        Slider("step", "Step", 400, 0, recorded.SETTING.steps, recorded.KEEP),
        Slider("circle", "Which circle", 1, 1, SHOWN_CIRCLES),
    ],
    runs=[phase_rules.detect_phases, modular.spectrum, modular.circle, modular.on_plane, modular.run],
    snippet="""
        from engine.modular_addition import spectrum
        from engine.recorded_addition import load

        kept = load()
        place = kept.place({step})
        frequency = kept.frequencies[{circle} - 1]
        shares, points = spectrum(kept.numbers(place)), kept.points(place, frequency)
        print(kept.made, [(p.name, p.start, p.end) for p in kept.phases])
        print(frequency, shares[frequency - 1], points[:3])
    """,
    provenance="A recorded run of this engine (python -m scripts.record_modular_addition); phases and circles live",
    presets=[
        Preset("Not trained", {"step": 0}, "Numbers are scattered at random."),
        Preset("By heart", {"step": 400}, "All training sums are right. And the others?"),
        Preset("The end", {"step": recorded.SETTING.steps}, "Follow the line: what is a number's neighbour?"),
    ],
    height=900,
)
def late(step: int, circle: int) -> tuple[Any, ...]:
    kept = recorded.load()
    place = kept.place(step)
    at = min(int(np.searchsorted(kept.steps, step)), len(kept.steps) - 1)
    frequency = kept.frequencies[circle - 1]
    shares, points = modular.spectrum(kept.numbers(place)), kept.points(place, frequency)
    round_now = modular.roundness(points, frequency)
    strong = int(np.sum(np.cumsum(np.sort(shares)[::-1]) < 0.9)) + 1
    accuracy, loss, norm = addition_curves(kept.steps, kept.loss, kept.accuracy, kept.norm, at, thin=4)
    picture = stack(
        row(accuracy, loss),
        row(
            circle_picture(points, frequency, kept.setting.modulus),
            stack(waves_picture(shares, frequency), norm),
        ),
        phase_table(kept.phases, step),
    )
    phase = next((p for p in kept.phases if p.start <= step < p.end), kept.phases[-1])
    text = (
        f"After {step:,} steps the model knows {{{{train|{kept.accuracy[at, 0]:.1%}}}}} of the sums that it trains on "
        f"and {{{{held|{kept.accuracy[at, 1]:.1%}}}}} of the others. {PHASE_WORDS[phase.name]}. "
        f"{strong} of {len(shares)} waves hold nine tenths of its table of numbers; the circle of {frequency} turns is "
        f"{round_now:.0%} round."
    )
    p = kept.setting.modulus
    further = pow(frequency, -1, p)  # from a number to its neighbour on the circle
    formula = (
        rf"\text{{angle of }} n = 2\pi \cdot \frac{{{frequency}\, n}}{{{p}}} \qquad \text{{next to }} n: \; "
        rf"n + {further}, \text{{ as }} {further} \cdot {frequency} = {further * frequency // p} \cdot {p} + 1"
    )
    return picture, text, formula, {"shares": shares, "points": points, "accuracy": kept.accuracy, "loss": kept.loss}


def waves_picture(shares: Any, frequency: int) -> dict[str, Any]:
    """How much of the table is a wave of each frequency."""
    return histogram(
        np.arange(len(shares) + 1) + 0.5,
        100 * shares,
        title="Waves in the table of numbers",
        tensor="tokens",
        x_label="turns",
        y_label="%",
        shade=(frequency - 0.5, frequency + 0.5),
    )


def circle_picture(points: Any, frequency: int, modulus: int) -> dict[str, Any]:
    """The numbers in the plane of one frequency, each joined to its neighbour around the circle."""
    order = modular.around(modulus, frequency)
    ends = zip(order, np.roll(order, -1), strict=True)
    return plane(
        [{"x": float(x), "y": float(y), "label": str(i), "tensor": "tokens"} for i, (x, y) in enumerate(points)],
        title=f"The numbers 0 to {modulus - 1} in the plane of {frequency} turns",
        arrows=[
            {"x0": float(points[a, 0]), "y0": float(points[a, 1]), "x1": float(points[b, 0]), "y1": float(points[b, 1]),
             "tensor": "resid"}
            for a, b in ends
        ],
        limit=1.2 * float(np.max(np.abs(points))),
    )  # fmt: skip


DECAYS = {"0": "none", "0.3": "0.3", "1": "1", "2": "2"}


@chapter.lab(
    "grow",
    title="Run a smaller one yourself",
    controls=[
        Choice("decay", "Weight decay", "1", DECAYS),
        Choice("share", "Trained on", "0.6", {"0.3": "30 % of all sums", "0.5": "50 %", "0.6": "60 %", "0.8": "80 %"}),
        Choice("modulus", "Modulus", "31", {"23": "23", "31": "31", "37": "37"}),
        Choice("steps", "At most", "1000", {"50": "50 steps", "1000": "1,000 steps", "2000": "2,000 steps"}),
        Slider("seed", "Seed", 0, 0, 9),
    ],
    runs=[modular.run, modular.split, modular.score, phase_rules.detect_phases],
    snippet="""
        from engine.modular_addition import Setting, run

        setting = Setting(modulus=int({modulus!r}), share=float({share!r}), width=24, hidden=128, learning_rate=1e-2,
                          weight_decay=float({decay!r}), steps=int({steps!r}), seed={seed})
        accuracy = []
        for look in run(setting, every=10):
            accuracy.append(look.accuracy)
            if len(accuracy) > 10 and min(held for _, held in accuracy[-10:]) > 0.95:
                break
        print(look.step, look.accuracy)
    """,
    provenance="Trained live by the engine, all training sums in every step",
    presets=[
        Preset(
            "Without weight decay", {"decay": "0", "share": "0.6"}, "Predict: does it still find the rule in this time?"
        ),
        Preset(
            "More of the table",
            {"decay": "1", "share": "0.8"},
            "With 80 % of all sums shown, is there still a plateau?",
        ),
        Preset(
            "Less of it",
            {"decay": "1", "share": "0.3"},
            "Below some share the rule is not found, at least not in this time.",
        ),
    ],
    height=120,
    long=Long(seconds=200, takes="5 to 60 seconds", quick={"steps": "50", "modulus": "23"}),
)
def grow(decay: str, share: str, modulus: str, steps: str, seed: int) -> Steps:
    setting = Setting(
        modulus=int(modulus), share=float(share), width=24, hidden=128, learning_rate=1e-2, weight_decay=float(decay),
        steps=int(steps), seed=seed,
    )  # fmt: skip
    looks: list[modular.Look] = []
    for now in modular.run(setting, every=10):
        looks.append(now)
        shown = grown(setting, looks) if now.step % 50 == 0 else None
        yield Progress(
            now.step / setting.steps,
            f"Step {now.step}: {now.accuracy[0]:.0%} of the sums trained on, {now.accuracy[1]:.0%} of the others",
            shown,
        )
        if len(looks) > 10 and min(look.accuracy[1] for look in looks[-10:]) > 0.95:
            break
    return grown(setting, looks)


def grown(setting: Setting, looks: list[modular.Look]) -> tuple[Any, ...]:
    curves, last = curves_of(looks), looks[-1]
    loss, accuracy = (np.array([getattr(now, name) for now in looks]) for name in ("loss", "accuracy"))
    norm = np.array([now.norm for now in looks])
    numbers = last.parameters["embedding"][:-1]
    shares = modular.spectrum(numbers)
    frequency = int(np.argmax(shares)) + 1
    points = modular.on_plane(numbers, modular.circle(numbers, frequency))
    found = phase_rules.detect_phases(curves)
    right, loss_curve, norm_curve = addition_curves(curves.steps, loss, accuracy, norm)
    picture = stack(
        row(right, loss_curve),
        row(circle_picture(points, frequency, setting.modulus),
            stack(waves_picture(shares, frequency), norm_curve)),
        phase_table(found),
    )  # fmt: skip
    data_of = {"accuracy": accuracy, "loss": loss, "norm": norm, "shares": shares}
    formula = (
        rf"(a + b) \text{{ mod }} {setting.modulus}: \quad {setting.modulus}^2 = {setting.modulus**2} \text{{ sums}}, "
        rf"\quad \frac{{1}}{{{setting.modulus}}} = {number(100 / setting.modulus, 3)}\,\% \text{{ by guessing}}"
    )
    return picture, grown_words(setting, curves), formula, data_of


def grown_words(setting: Setting, curves: phase_rules.Curves) -> str:
    """What came out, whatever it was."""
    steps, ends = curves.steps, (curves.training[-1], curves.validation[-1])
    perfect, general = (
        int(steps[np.argmax(values >= limit)]) if np.any(values >= limit) else None
        for values, limit in ((curves.training, 0.99), (curves.validation, 0.95))
    )
    now = f"After {steps[-1]:,} steps {ends[0]:.0%} of the training sums are right, and {ends[1]:.0%} of the others."
    if perfect is None:
        return f"{now} It has not even learned the training sums by heart yet."
    if general is None:
        return (
            f"{now} It knew 99% of the training sums after {perfect:,} steps and has not found the rule since, in "
            f"{steps[-1] - perfect:,} more. Nobody can tell from these curves whether it would."
        )
    late = general >= 2 * max(perfect, 10)
    verdict = f"{general / max(perfect, 10):.0f} times as many" if late else "no delay to speak of"
    return f"{now} 99% of the training sums took {perfect:,} steps, 95% of the others {general:,}: {verdict}."


# --- a sweep ---------------------------------------------------------------------------------------------------------

WIDTHS = (8, 16, 24, 32, 48)
RATES = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
OWN_TEXT = (
    "The river rises in the hills and runs down to the sea. On its way it turns a mill, and the mill grinds corn for "
    "the bakers of the town. When there is little rain the wheel stands still, and the bread is late. Then people go "
    "up to the hills to see whether there are clouds. When there is much rain the river runs over its banks and into "
    "the cellars of the bakers, and the bread is late again. So they talk about the weather every day of the year."
)


def swept_corpus(corpus: str, text: str) -> Corpus:
    if corpus == "grammar":
        return synthetic()
    try:
        return text_corpus(text, context=CONTEXT)
    except ValueError as problem:
        raise ReaderError(str(problem)) from problem


@chapter.lab(
    "sweep",
    title="Several models side by side",
    controls=[
        Choice("kind", "What differs", "width", {"width": "the width", "rate": "the learning rate"}),
        Choice("corpus", "Text", "grammar", {"grammar": "the grammar (entropy known)", "own": "your own, below"}),
        Choice("steps", "Steps", "300", {"50": "50", "100": "100", "300": "300", "600": "600"}),
        Slider("seed", "Seed", 0, 0, 9),
        Text("text", "Your own text", OWN_TEXT, limit=4000, rows=3),
    ],
    runs=[sweep.side_by_side, sweep.power_law, sweep.widths, sweep.rates],
    snippet="""
        import numpy as np
        from engine.corpora import synthetic, text_corpus
        from engine.sweep import rates, side_by_side, widths
        from engine.training import Plan

        corpus = synthetic() if {corpus!r} == "grammar" else text_corpus({text!r}, context=32)
        plan = Plan(steps=int({steps!r}), batch=16, learning_rate=1e-2, warmup=20, seed={seed},
                    evaluate_every=int({steps!r}) // 10, held_out=64)
        if {kind!r} == "width":
            entrants = widths(corpus, (8, 16, 24, 32, 48), plan)
        else:
            entrants = rates(corpus, (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), plan)
        for last in side_by_side(corpus, entrants):
            pass
        final = np.array([step.validation for step in last])
        print([one.name for one in entrants], final)
    """,
    provenance="Five or six small models trained live by the engine",
    presets=[
        Preset("Learning rates", {"kind": "rate"}, "Predict: which of six rates from 0.0001 to 0.1 ends lowest?"),
        Preset("Your own text", {"corpus": "own"}, "A short text. Do larger models still do better?"),
        Preset("Twice as long", {"steps": "600"}, "Does the exponent stay the same? A law would."),
    ],
    height=120,
    long=Long(seconds=200, takes="10 to 60 seconds", quick={"steps": "50"}),
)
def swept(kind: str, corpus: str, steps: str, seed: int, text: str) -> Steps:
    chosen = swept_corpus(corpus, text)
    plan = Plan(
        steps=int(steps), batch=16, learning_rate=1e-2, warmup=20, seed=seed, evaluate_every=int(steps) // 10,
        held_out=64,
    )  # fmt: skip
    entrants = sweep.widths(chosen, WIDTHS, plan) if kind == "width" else sweep.rates(chosen, RATES, plan)
    seen: list[tuple[Step, ...]] = []
    for now in sweep.side_by_side(chosen, entrants):
        looked = now[0].validation is not None
        seen = [*seen, now] if looked else seen
        shown = sweep_shown(chosen, entrants, seen) if looked and len(seen) > 1 else None
        yield Progress(now[0].number / plan.steps, f"Step {now[0].number} of {plan.steps}", shown)
    return sweep_shown(chosen, entrants, seen)


def sweep_shown(corpus: Corpus, entrants: list[sweep.Entrant], seen: list[tuple[Step, ...]]) -> tuple[Any, ...]:
    at = [now[0].number for now in seen]
    losses = np.array([[step.validation for step in now] for now in seen], float)  # (looks, models)
    final, floor = losses[-1], corpus.floor(CONTEXT) if corpus.floor else 0.0
    by_width = entrants[0].name.startswith("width")
    sizes = np.array([one.gpt.parameter_count for one in entrants], float)
    curves = curve(
        [(one.name, at, losses[:, i]) for i, one in enumerate(entrants)],
        title="Held-out loss of each",
        x_label="steps",
        y_label="nats a token",
        tensors=["grad", "ffn", "q", "attn", "logits", "v"],
    )
    law = sweep.power_law(sizes, final, floor) if by_width and np.all(final > floor) else None
    rates = np.array([one.plan.learning_rate for one in entrants])
    x, x_label = (sizes, "parameters") if by_width else (rates, "learning rate")
    second = law_picture(sizes, final, law) if law else final_picture(x, final, x_label)
    columns = ["model", "parameters", "operations (6ND)", "held out", *(["by the law", "off the law"] if law else [])]
    fitted = [fit_cells(law, sizes, i) if law else [] for i in range(len(entrants))]
    rows = [
        [one.name, f"{one.gpt.parameter_count:,}", power(one.compute), f"{final[i]:.3f}", *fitted[i]]
        for i, one in enumerate(entrants)
    ]
    picture = stack(row(curves, second), table(columns, rows, title=f"After {at[-1]} steps"))
    text, formula = law_words(law, final, floor, at[-1]) if law else best_words(x, final, x_label)
    return picture, text, formula, {"final": final, "parameters": sizes}


def fit_cells(law: sweep.PowerLaw, sizes: Any, i: int) -> list[str]:
    """What the law says of a model, and how far the model's loss above the floor is off that."""
    return [
        f"{law(sizes)[i]:.3f}",
        f"{100 * (math.exp(law.residuals[i]) - 1):+.1f} %".replace("-", MINUS),
    ]


def law_picture(sizes: Any, final: Any, law: sweep.PowerLaw) -> dict[str, Any]:
    line = np.geomspace(sizes[0], sizes[-1], 20)
    return curve(
        [("fitted law", line, law(line) - law.floor), ("models", sizes, final - law.floor)],
        title=f"Loss{' above the floor' if law.floor else ''} against size, both logarithmic",
        x_label="parameters",
        y_label="nats a token",
        tensors=["resid", "logits"],
        log_x=True,
        log_y=True,
        dots=[1],
    )


def final_picture(x: Any, final: Any, x_label: str) -> dict[str, Any]:
    """Final losses without a law."""
    return curve(
        [("models", x, final)],
        title=f"Held-out loss against {x_label}",
        x_label=x_label,
        y_label="nats a token",
        tensors=["logits"],
        log_x=True,
        points=True,
    )


def law_words(law: sweep.PowerLaw, final: Any, floor: float, step: int) -> tuple[str, str]:
    low, high = float(np.min(law.exponents_without)), float(np.max(law.exponents_without))
    of = "loss above the floor" if floor else "loss"
    text = (
        f"After {step} steps the {of} goes as the size to the power of {{{{exponent|{minus(-law.exponent, 2)}}}}}. The "
        f"{len(final)} points lie {100 * (math.exp(law.spread) - 1):.0f} % off that line, typically. Leave one of them "
        f"out, and the exponent is anywhere from {minus(-high, 2)} to {minus(-low, 2)}. "
    )
    if law.exponent <= 0:
        text += "A positive power: here larger models did no better. Nothing is to be foretold from that."
    else:
        text += (
            f"Continued to ten times the largest size, the line promises {100 * (1 - 10**-law.exponent):.0f} % less. "
            "A handful of points over less than two powers of ten would fit many other curves as well."
        )
    start = rf"{number(floor, 4)} + " if floor else ""
    return text, rf"L(N) = {start}{number(law.factor, 3)} \cdot N^{{{number(-law.exponent, 3)}}}"


def best_words(x: Any, final: Any, x_label: str) -> tuple[str, str]:
    best = int(np.nanargmin(final))
    text = f"The lowest held-out loss, {final[best]:.3f}, is at {x_label} {x[best]:,g}. "
    if 0 < best < len(x) - 1:
        text += (
            f"To both sides it is higher: {final[0]:.2f} at {x[0]:,g}, {final[-1]:.2f} at {x[-1]:,g}. A curve that "
            "turns round is no power law, and none is fitted."
        )
    else:
        text += "That is at the edge of what was tried, so the best may lie beyond. No law is fitted."
    return text, rf"\min L = {number(float(final[best]))} \quad \text{{at }} {number(float(x[best]), 4)}"


def minus(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", MINUS)


# --- numbers of the prose --------------------------------------------------------------------------------------------


def reached(column: int, share: float) -> int:
    """The first step at which the recorded run has this share of the sums right."""
    kept = recorded.load()
    return int(kept.steps[np.argmax(kept.accuracy[:, column] >= share)])


@chapter.number
def modulus() -> int:
    return recorded.load().setting.modulus


@chapter.number
def sums_trained() -> str:
    setting = recorded.load().setting
    return f"{len(modular.split(setting)[0][0]):,} of all {setting.modulus**2:,}"


@chapter.number
def perfect_step() -> str:
    return f"{reached(0, 1.0):,}"


@chapter.number
def then_held_out() -> str:
    kept = recorded.load()
    return f"{kept.accuracy[np.argmax(kept.accuracy[:, 0] >= 1), 1]:.0%}".replace("%", " %")


@chapter.number
def general_step() -> str:
    return f"{reached(1, 0.95):,}"


@chapter.number
def recorded_seconds() -> int:
    return int(recorded.load().made["seconds"])


@chapter.number
def recorded_date() -> str:
    return str(recorded.load().made["date"])


@chapter.number
def waves_used() -> str:
    """How many frequencies hold nine tenths of the last table, of how many."""
    shares = np.sort(modular.spectrum(recorded.load().numbers(-1)))[::-1]
    return f"{int(np.sum(np.cumsum(shares) < 0.9)) + 1} of {len(shares)}"


@chapter.number
def worst_loss() -> str:
    return f"{float(np.max(recorded.load().loss[:, 1])):.2f}"


@chapter.number
def guessing_loss() -> str:
    return f"{math.log(recorded.load().setting.modulus):.2f}"


def _more_than_best(times: float) -> str:
    """What a size so many times the best loses more, at the budget that the lab starts with."""
    best = scaling.optimum(10.0**CHINCHILLA)
    return f"{float(scaling.chinchilla_loss(best.parameters * times, best.tokens / times)) - best.loss:.3f}"


@chapter.number
def ten_too_small() -> str:
    return _more_than_best(0.1)


@chapter.number
def ten_too_large() -> str:
    return _more_than_best(10)


@chapter.number
def chinchilla_best() -> str:
    return big(scaling.optimum(scaling.TRAINED["Gopher"].compute).parameters)


@chapter.number
def chinchilla_refit() -> str:
    best = scaling.optimum(scaling.TRAINED["Gopher"].compute, scaling.LAWS["besiroglu"])
    return f"{big(best.parameters)}, on {best.tokens / best.parameters:.0f} tokens for each"


@chapter.number
def smollm2_ratio() -> str:
    return f"{scaling.TRAINED['SmolLM2-135M'].per_parameter:,.0f}"


# --- check yourself --------------------------------------------------------------------------------------------------


@chapter.answer
def right_by_then() -> float:
    """Per cent of the held-out sums that are right when every training sum first is."""
    kept = recorded.load()
    return 100 * float(kept.accuracy[np.argmax(kept.accuracy[:, 0] >= 1), 1])


@chapter.answer
def more_parameters() -> float:
    """How many times the best size grows when the budget grows a hundredfold."""
    small, large = (scaling.optimum(10.0**e).parameters for e in (21, 23))
    return float(large / small)


@chapter.answer
def tokens_each() -> float:
    return float(scaling.TRAINED["Llama 3.1 8B"].per_parameter)


chapter.code["detect_phases"] = phase_rules.detect_phases
chapter.code["chinchilla_loss"] = scaling.chinchilla_loss
chapter.code["power_law"] = sweep.power_law
