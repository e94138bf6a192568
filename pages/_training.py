"""Runs of training for the labs of the page: what to train, what is kept on the way, and how a run is drawn."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from engine.corpora import Corpus, corpus
from engine.gpt import GPT, Parameters
from engine.recorded_training import Recording, recorded
from engine.training import Checkpoint, Plan, Step, train
from engine.training_study import (
    SKILLS,
    Curves,
    Reading,
    checkpoint_arrays,
    checkpoint_from,
    continued,
    excess,
    halved,
    kept_steps,
    looks_back,
    read,
    widened,
)
from ui.figures import bars, curve, matrix, readouts, row, stack, table
from ui.jobs.runs import Run
from ui.lab import ReaderError

SAVE_EVERY = 2.0
"""Seconds from one full checkpoint to the next: what a stopped run has to compute again at most."""
SAMPLE = 28
SIGNS = {"\n": "⏎", "\t": "⇥", " ": "␣"}
PROBE = {"grammar": ". Ada asks Ben for the key and Ben gives Ada the"}
PROBE_TOKENS = 12


@dataclass(frozen=True)
class Setting:
    """What a run is made of, from the values of the lab's controls."""

    corpus: Corpus
    gpt: GPT
    plan: Plan


def setting(
    corpus_name: str, text: str, width: str, layers: int, heads: str, rate: str, batch: str, steps: int, seed: int
) -> Setting:
    """Raises ReaderError for an own text that is too short, and for heads that the width cannot be divided into."""
    try:
        chosen = corpus(corpus_name, text)
        gpt = GPT(len(chosen.vocabulary), int(layers), int(width), int(heads))
    except ValueError as problem:
        raise ReaderError(str(problem)) from problem
    plan = Plan(
        steps=int(steps), batch=int(batch), learning_rate=float(rate), warmup=min(40, int(steps) // 4), seed=int(seed)
    )
    return Setting(chosen, gpt, plan)


# --- a run on its way ------------------------------------------------------------------------------------------------


@dataclass
class Progressing:
    """A run between two steps: its curves, its samples, where it stands."""

    setting: Setting
    curves: Curves
    samples: list[tuple[int, str]]
    now: Checkpoint | None


def taken_up(run: Run, chosen: Setting) -> Progressing:
    """What is kept of the run, or a new one."""
    last = run.load("last")
    if last is None:
        return Progressing(chosen, Curves(), [], None)
    now = checkpoint_from(last)
    samples = [(step, text) for step, text in run.noted().get("samples", []) if step <= now.step]
    return Progressing(chosen, Curves.from_arrays(last), samples, now)


def going_on(run: Run, at: Progressing) -> Iterator[tuple[Step, bool]]:
    """Train from where the run stands; keep what a look back and a resumption need. Yields also: was there a look?"""
    chosen, keep, saved = at.setting, kept_steps(at.setting.plan.steps), time.monotonic()
    windows = chosen.corpus.windows([0], chosen.plan.held_out, chosen.gpt.context, held_out=True)
    above = (lambda p: excess(chosen.gpt, p, *windows)) if chosen.corpus.name == "grammar" else None
    for step in train(chosen.gpt, chosen.corpus, chosen.plan, at.now):
        fresh = step.number >= len(at.curves.losses)
        at.curves.add(step, above)
        at.now = step.checkpoint
        if step.number in keep and (fresh or not run.load(str(step.number))):
            at.samples.append((step.number, sample_of(chosen, step.checkpoint.parameters)))
            run.keep(str(step.number), halved(step.checkpoint.parameters))
            run.note(samples=at.samples)
        if time.monotonic() - saved > SAVE_EVERY or step.number == keep[1]:
            saved = time.monotonic()
            run.keep("last", checkpoint_arrays(at.now) | at.curves.arrays())
        yield step, step.validation is not None
    run.keep("curves", at.curves.arrays())
    run.drop("last")


def looked_back(run: Run | None) -> Recording:
    """The reader's own run as far as it is kept; the recorded one where there is none."""
    noted = run.noted() if run is not None else {}
    steps = tuple(sorted(int(part) for part in noted.get("parts", []) if part.isdigit()))
    arrays = (run.load("curves") or run.load("last")) if run is not None and steps else None
    if run is None or arrays is None:
        return recorded()
    chosen = setting(**{"corpus_name" if name == "corpus" else name: value for name, value in noted["values"].items()})

    def weights(step: int) -> Parameters:
        found = run.load(str(step))
        if found is None:
            raise ReaderError("This checkpoint is no longer kept. Train again, or choose another one.")
        return widened(found)

    curves = Curves.from_arrays(arrays)
    reached = tuple(step for step in steps if step < len(curves.losses))
    return Recording(chosen.gpt, chosen.corpus, chosen.plan, curves, reached, weights, True)


def whose(run: Recording) -> str:
    """Whose run it is, at the start of a sentence."""
    if not run.own:
        return "The recorded run"
    name = "own text" if run.corpus.name == "own text" else run.corpus.name
    return f"Your run ({name}, {run.gpt.parameter_count:,} parameters)"


# --- what a model does -----------------------------------------------------------------------------------------------


def one_line(text: str) -> str:
    """A text on one line: line breaks as a sign."""
    return text.replace("\n", " ⏎ ").strip()


def label(token: str) -> str:
    """A token as a label: never invisible."""
    if not token.isprintable() and token not in SIGNS:
        return " ".join(f"U+{ord(character):04X}" for character in token)
    return SIGNS.get(token, token)


def sample_of(chosen: Setting | Recording, parameters: Parameters, tokens: int = SAMPLE, seed: int = 0) -> str:
    """What the model writes after the corpus' own beginning."""
    tokens = tokens if chosen.corpus.joiner else 2 * tokens
    return one_line(chosen.corpus.decode(continued(chosen.gpt, parameters, chosen.corpus.start, tokens, 1.0, seed)))


def sample_at(run: Recording, step: int) -> str:
    """What the model of a kept checkpoint writes; of the recorded run, which never changes, said once."""
    return sample_of(run, run.weights(step)) if run.own else recorded_sample(step)


@lru_cache(maxsize=32)
def recorded_sample(step: int) -> str:
    """What the recorded run's model writes at a kept step: token by token, most of the lab's time."""
    return sample_of(recorded(), recorded().weights(step))


def probe(chosen: Setting | Recording) -> list[int]:
    """A short text to look at attention with: from the held-out part, so the model has not seen it."""
    if chosen.corpus.name in PROBE:
        return chosen.corpus.encode(PROBE[chosen.corpus.name])
    inputs, _ = chosen.corpus.windows([0], 1, PROBE_TOKENS, held_out=True)
    return inputs[0].tolist()


def prompt_ids(chosen: Recording, prompt: str) -> list[int]:
    """The reader's prompt as tokens, after what the corpus begins with; the probe where there is none."""
    if not prompt.strip():
        return probe(chosen)
    try:
        ids = [*chosen.corpus.start, *chosen.corpus.encode(prompt)]
    except ValueError as problem:
        known = " ".join(label(token) for token in chosen.corpus.vocabulary)
        raise ReaderError(f"{problem} All that it has: {known} . Leave the line empty for an example.") from problem
    return ids[-(chosen.gpt.context - 1) :]


# --- pictures --------------------------------------------------------------------------------------------------------


def loss_picture(chosen: Setting | Recording, curves: Curves, marker: int | None = None) -> Any:
    """Training and validation loss over the steps, with what is possible where that is known."""
    plan, text, context = chosen.plan, chosen.corpus, chosen.gpt.context
    at, losses = curves.smooth(10 if len(curves.losses) > 60 else 1)
    lines: list[tuple[str, Any, Any]] = [("training", at, losses), ("validation", curves.looks, curves.validation)]
    tensors = ["resid", "logits"]
    if text.floor and text.shallow_floor:
        ends = [0, plan.steps]
        lines += [
            ("entropy floor", ends, [text.floor(context)] * 2),
            ("best without attention", ends, [text.shallow_floor(context)] * 2),
        ]
        tensors += ["k", "attn"]
    spot = None
    if marker is not None:
        nearest = int(np.argmin(np.abs(np.array(curves.looks) - marker)))
        spot = (float(marker), float(np.interp(marker, curves.looks, curves.validation)) if nearest >= 0 else 0.0)
    return curve(lines, title="Loss, in nats a token", x_label="step", y_label="loss", tensors=tensors, marker=spot)


def skills_picture(curves: Curves) -> Any | None:
    """Of the grammar: which skill is learned when."""
    if not curves.excess:
        return None
    above = np.array(curves.excess)
    return curve(
        [(name, curves.looks, above[:, i]) for i, name in enumerate(SKILLS)],
        title="Nats above perfect, where one skill decides the word",
        x_label="step",
        y_label="nats",
        tensors=["q", "k", "v", "ffn"],
    )


def norm_picture(curves: Curves) -> Any:
    steps = np.arange(len(curves.norms))
    every = max(1, len(steps) // 150)
    return curve(
        [("gradient norm", steps[::every], np.array(curves.norms)[::every])],
        title="Length of the gradient, before clipping at 1",
        x_label="step",
        y_label="norm",
        tensors=["grad"],
    )


def far_head(reading: Reading) -> tuple[int, int]:
    """The head that points most sharply at tokens further back."""
    far = looks_back(reading.attention)
    layer, head = np.unravel_index(int(np.argmax(far)), far.shape)
    return int(layer), int(head)


def head_picture(chosen: Setting | Recording, reading: Reading, layer: int, head: int) -> Any:
    names = [label(chosen.corpus.vocabulary[i]) for i in reading.ids]
    return matrix(
        100 * reading.attention[layer, head],
        f"Attention of layer {layer}, head {head}, in per cent",
        "attn",
        rows=names,
        columns=names,
        scale="share",
        limit=100.0,
        digits=0,
        cell=26,
    )


def next_picture(chosen: Setting | Recording, probabilities: np.ndarray, most: int = 8) -> Any:
    best = np.argsort(-probabilities, kind="stable")[:most]
    return bars(
        [label(chosen.corpus.vocabulary[i]) for i in best],
        probabilities[best],
        title="The next token",
        tensor="logits",
        share=True,
        limit=1.0,
    )


def run_shown(at: Progressing) -> tuple[Any, ...]:
    """The picture, sentence, formula and data of a run under way or finished."""
    chosen, curves = at.setting, at.curves
    assert at.now is not None
    reading = read(chosen.gpt, at.now.parameters, probe(chosen))
    layer, head = far_head(reading)
    skills = skills_picture(curves)
    picture = stack(
        row(loss_picture(chosen, curves), norm_picture(curves)),
        *([skills] if skills else []),
        table(["step", "what the model writes"], at.samples, title="Samples on the way"),
        head_picture(chosen, reading, layer, head),
        readouts(
            [
                ("parameters", f"{chosen.gpt.parameter_count:,}"),
                ("vocabulary", str(chosen.gpt.vocabulary)),
                ("tokens a step", f"{chosen.plan.batch * chosen.gpt.context:,}"),
                ("tokens so far", f"{at.now.step * chosen.plan.batch * chosen.gpt.context:,}"),
            ]
        ),
    )
    data = {
        "losses": np.array(curves.losses),
        "validation": np.array(curves.validation),
        "looks": np.array(curves.looks),
        "gradient_norms": np.array(curves.norms),
    }
    return picture, run_sentence(at, layer, head), run_formula(at), data


def run_sentence(at: Progressing, layer: int, head: int) -> str:
    chosen, curves = at.setting, at.curves
    first, last, reached = curves.losses[0], curves.validation[-1], len(curves.losses) - 1
    words = [
        f"After {reached} of {chosen.plan.steps} steps the loss on text that was never trained on is {last:.3f}; it "
        f"began at {curves.validation[0]:.3f}, and ln {chosen.gpt.vocabulary} is {math.log(chosen.gpt.vocabulary):.3f}."
    ]
    if chosen.gpt.vocabulary == 1:
        words.append("The text has a single character, so there is nothing to guess.")
    elif not np.isfinite(first + last) or last > 3 * curves.validation[0]:
        words.append("It has run away: the learning rate is too large.")
    elif chosen.corpus.floor and chosen.corpus.shallow_floor:
        floor, shallow = (f(chosen.gpt.context) for f in (chosen.corpus.floor, chosen.corpus.shallow_floor))
        words.append(f"No model can be expected below {floor:.3f}: {last - floor:.3f} to go.")
        if last < shallow:
            words.append(f"It is below {shallow:.3f}, the best without looking further back than one word.")
    else:
        best = int(np.argmin(curves.validation))
        risen = last > curves.validation[best] + 0.05
        if risen:
            words.append(f"It was lowest, {curves.validation[best]:.3f}, after {curves.looks[best]} steps.")
        if risen and chosen.corpus.text and curves.losses[-1] < curves.losses[curves.looks[best]]:
            words.append("Since then the model has been learning this text by heart.")
    words.append(f"Layer {layer}, head {head} points further back most sharply now.")
    return " ".join(words)


def run_formula(at: Progressing) -> str:
    chosen, last = at.setting, at.curves.validation[-1]
    if not np.isfinite(last) or last > 50:
        return ""
    p = f"e^{{-{last:.3f}}} = {math.exp(-last):.3f}"
    return rf"\text{{a typical token is given }} {p} \quad \text{{at first }} \frac{{1}}{{{chosen.gpt.vocabulary}}}"


def learned_at(curves: Curves, skill: int, below: float = 0.1) -> int | None:
    """The first look after which a skill of the grammar costs less than `below` nats, and stays there."""
    high = [look for look, above in zip(curves.looks, curves.excess, strict=True) if above[skill] >= below]
    later = [look for look in curves.looks if not high or look > high[-1]]
    return later[0] if later else None
