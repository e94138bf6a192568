"""Training: what a step is, a small GPT trained live, and what has become of it. The labs of the page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import gpt as gpt_module
from engine import grammar as rules
from engine import training
from engine import training_study as study
from engine.corpora import text_corpus
from engine.gpt import GPT
from engine.recorded_training import COMMAND, default_gpt, recorded
from engine.training import Plan, train
from pages import _training_more
from pages._training import (
    Progressing,
    Setting,
    going_on,
    head_picture,
    label,
    learned_at,
    looked_back,
    loss_picture,
    next_picture,
    one_line,
    prompt_ids,
    run_shown,
    sample_at,
    setting,
    taken_up,
    whose,
)
from pages._training_chapter import chapter
from ui.controls import Choice, Pick, Slider, Text, within
from ui.figures import bars, cells, curve, readouts, row, stack, table, thumbnails, tokens, words
from ui.jobs.runs import Run
from ui.jobs.work import Long, Progress, Steps
from ui.lab import Preset, ReaderError
from ui.mathml import bracketed, number

WINDOWS, PLACES = 4, 10
LAST = 12
"""As many checkpoints a run keeps at most, less one."""
RECORDED = f"The weights at the kept steps of a recorded run ({COMMAND}); the rest computed live"
OWN = (Path(__file__).resolve().parents[1] / "data" / "corpora" / "stories.txt").read_text("utf-8")
FIRST_STORY = OWN.split("\n\n")[0].split("\n", 1)[1].replace("\n", " ")


def at_index(index: int) -> int:
    """The step of a kept checkpoint of the recorded run."""
    return recorded().steps[min(index, len(recorded().steps) - 1)]


def batch_of(seed: int, index: int) -> study.Batch:
    run = recorded()
    return study.look_at(run.gpt, run.weights(at_index(index)), *run.corpus.windows([seed], WINDOWS, PLACES))


# --- one step --------------------------------------------------------------------------------------------------------


@chapter.lab(
    "batch",
    title="One batch, token by token",
    controls=[
        Slider("at", "Checkpoint", 0, 0, len(recorded().steps) - 1),
        Slider("seed", "Which windows", 2, 0, 50),
        Pick("window", "Window", 1),
        Pick("place", "Place", 4),
    ],
    runs=[study.look_at, gpt_module.loss],
    snippet=f"""
        from engine.recorded_training import recorded
        from engine.training_study import look_at

        run = recorded()
        step = run.steps[{{at}}]
        batch = look_at(run.gpt, run.weights(step), *run.corpus.windows([{{seed}}], {WINDOWS}, {PLACES}))
        surprisals, loss = batch.surprisals, batch.loss
    """,
    provenance=RECORDED,
    presets=[
        Preset("No training", {"at": 0}, "Every guess is about 1 in 34, so every token costs about ln 34."),
        Preset("A little", {"at": 5}, "Which word follows which is known; what stands further back is not."),
        Preset("All of it", {"at": len(recorded().steps) - 1}, "What is left is what nobody could know."),
    ],
    height=430,
)
def one_batch(at: int, seed: int, window: int, place: int) -> tuple[Any, ...]:
    run, batch = recorded(), batch_of(seed, at)
    w, t = within(window, WINDOWS), within(place, PLACES)
    names = run.corpus.vocabulary
    given = np.take_along_axis(batch.probabilities, batch.targets[..., None], axis=-1)[..., 0]
    before, after = names[batch.inputs[w, t]], names[batch.targets[w, t]]
    p, lost, size = float(given[w, t]), float(batch.surprisals[w, t]), len(names)
    picture = stack(
        cells(
            [[names[i] for i in line] for line in batch.targets],
            given,
            title="The targets, tinted by the probability that the model gave them",
            rows=[f"window {i + 1}" for i in range(WINDOWS)],
            columns=[str(i + 1) for i in range(PLACES)],
            pick=("window", "place"),
            picked=(w, t),
        ),
        row(
            table(
                ["place", "last token seen", "target", "p", "−ln p"],
                [
                    [i + 1, names[batch.inputs[w, i]], names[batch.targets[w, i]], float(given[w, i]),
                     float(batch.surprisals[w, i])]
                    for i in range(PLACES)
                ],
                title=f"Window {w + 1}: the targets are the inputs, one place on",
                marked=[t],
            ),
            next_picture(run, batch.probabilities[w, t]),
        ),
    )  # fmt: skip
    sentence = (
        f"After {at_index(at)} steps. Window {w + 1}, place {t + 1}: after “{before}” comes “{after}”, to which the "
        f"model gave {100 * p:.3g} per cent, so it costs {lost:.3f}. The mean over all {WINDOWS * PLACES} places is "
        f"the loss, {batch.loss:.3f}; guessing evenly would cost ln {size} = {math.log(size):.3f} everywhere."
    )
    formula = (
        rf"-\ln {number(p)} = {number(lost)} \qquad L = \frac{{1}}{{{WINDOWS * PLACES}}}"
        rf"\sum -\ln \logits{{p(\text{{target}})}} = {number(batch.loss)}"
    )
    return picture, sentence, formula, {"surprisals": batch.surprisals, "loss": batch.loss, "inputs": batch.inputs}


@chapter.lab(
    "step",
    title="One step against the gradient",
    controls=[
        Slider("rate", "Learning rate, power of ten", -1.0, -3.0, 1.0, 0.05),
        Slider("at", "Checkpoint", 3, 0, len(recorded().steps) - 1),
        Slider("seed", "Which windows", 2, 0, 50),
    ],
    runs=[study.one_step],
    snippet=f"""
        from engine.recorded_training import recorded
        from engine.training_study import look_at, one_step

        run = recorded()
        weights = run.weights(run.steps[{{at}}])
        batch, others = (look_at(run.gpt, weights, *run.corpus.windows([seed], {WINDOWS}, {PLACES}))
                         for seed in ({{seed}}, 1000))
        step = one_step(run.gpt, weights, batch, others, 10 ** {{rate}})
        path, predicted = step.path, step.predicted
    """,
    provenance=RECORDED,
    presets=[
        Preset("Careful", {"rate": -2.5, "at": 3}, "The straight line is right, and hardly anything happens."),
        Preset("Too far", {"rate": 0.5, "at": 3}, "The gradient is true where you stand, and nowhere else."),
        Preset("Late", {"at": 9, "rate": -0.5}, "Near the end a batch that gets better makes the other worse."),
    ],
    height=330,
)
def step_taken(rate: float, at: int, seed: int) -> tuple[Any, ...]:
    run, size = recorded(), float(10**rate)
    batch, others = batch_of(seed, at), batch_of(1000, at)
    step = study.one_step(run.gpt, run.weights(at_index(at)), batch, others, size)
    gained, elsewhere = step.after.loss - batch.loss, step.others_after - step.others_before
    along = np.linspace(0, size, len(step.path))
    picture = row(
        curve(
            [("loss of the batch", along, step.path),
             ("as the gradient predicts", [0, size], [batch.loss, batch.loss + step.predicted])],
            title="The loss on the way",
            x_label="step length η",
            y_label="nats a token",
            tensors=["logits", "grad"],
        ),
        bars(
            ["this batch before", "this batch after", "other windows before", "other windows after"],
            [batch.loss, step.after.loss, step.others_before, step.others_after],
            title="Loss (nats a token)",
            tensor="logits",
        ),
    )  # fmt: skip
    share = gained / step.predicted if step.predicted else 0.0
    how = (
        "the line holds" if 0.9 < share < 1.1 else
        "less than the line promises" if 0 < share <= 0.9 else
        "more than the line promises" if share >= 1.1 else
        "the step went too far, and the loss is higher than before"
    )  # fmt: skip
    sentence = (
        f"A gradient of length {step.gradient_norm:.3g} and a step of η = {size:.3g} promise a change of "
        f"{step.predicted:.3g}; it is {gained:+.3g}: {how}. On windows that the step has not seen the loss changes by "
        f"{elsewhere:+.3g}."
    ).replace("-", "−")
    formula = (
        rf"-\eta\,\lVert\grad{{g}}\rVert^2 = -{number(size)} \cdot {bracketed(step.gradient_norm)}^2 = "
        rf"{number(step.predicted)} \qquad \Delta L = {number(gained)}"
    )
    return picture, sentence, formula, {"path": step.path, "predicted": step.predicted, "changes": [gained, elsewhere]}


# --- live ------------------------------------------------------------------------------------------------------------

CORPORA = {
    "grammar": "Grammar, by words (entropy known)",
    "arithmetic": "Sums, by characters",
    "names": "First names, by characters",
    "stories": "Short stories, by characters",
    "own": "Your own text, by characters",
}


@chapter.lab(
    "live",
    title="Train a GPT",
    controls=[
        Choice("corpus", "Text", "grammar", CORPORA),
        Choice("width", "Width", "64", {"16": "16", "32": "32", "64": "64", "128": "128"}),
        Slider("layers", "Blocks", 2, 1, 4),
        Choice("heads", "Heads", "4", {"1": "1", "2": "2", "4": "4", "8": "8"}),
        Choice(
            "rate",
            "Learning rate",
            "0.003",
            {"0.0003": "0.0003", "0.001": "0.001", "0.003": "0.003", "0.006": "0.006", "0.01": "0.01", "0.1": "0.1"},
        ),
        Choice("batch", "Windows a step", "16", {"4": "4", "8": "8", "16": "16", "32": "32"}),
        Slider("steps", "Steps", Plan().steps, 20, 1500, 20),
        Slider("seed", "Seed", 0, 0, 99),
        Text("text", "Your own text (used where you choose it above)", FIRST_STORY, limit=20_000, rows=3),
    ],
    runs=[training.train, training.batch_step, training.clipped, GPT.model, gpt_module.loss],
    snippet="""
        from engine.corpora import corpus
        from engine.training import GPT, Plan, train

        text = corpus({corpus!r}, {text!r})
        gpt = GPT(len(text.vocabulary), layers={layers}, width={width}, heads={heads})
        plan = Plan(steps={steps}, batch={batch}, learning_rate={rate}, warmup=min(40, {steps} // 4), seed={seed})
        losses = [step.loss for step in train(gpt, text, plan)]
    """,
    provenance="A real training run on this server, by the engine's own backpropagation",
    presets=[
        Preset(
            "The default",
            {"corpus": "grammar", "width": "64", "layers": 2, "heads": "4", "rate": "0.003", "steps": Plan().steps},
            "Near the entropy floor early on. Watch the steps in the curves: one skill after the other.",
        ),
        Preset(
            "Wider",
            {"corpus": "grammar", "width": "128", "layers": 2, "heads": "8", "rate": "0.006", "steps": 800},
            "Four times the parameters. Does it learn to repeat the verb of a question? Takes two minutes.",
        ),
        Preset(
            "One block",
            {"corpus": "grammar", "width": "64", "layers": 1, "heads": "4", "rate": "0.003", "steps": 600},
            "Half the parameters. Names and things come back from a fixed number of words before. Does one block do?",
        ),
        Preset(
            "Sums",
            {"corpus": "arithmetic", "width": "64", "layers": 2, "heads": "4", "rate": "0.003", "steps": 1500},
            "The form comes at once. Are the sums right?",
        ),
        Preset(
            "Too fast",
            {"corpus": "grammar", "width": "64", "layers": 2, "heads": "4", "rate": "0.1", "steps": 200},
            "Over thirty times the learning rate. Which word follows which it still gets, and which skill beyond?",
        ),
        Preset(
            "Your text",
            {"corpus": "own", "width": "64", "layers": 2, "heads": "4", "rate": "0.003", "steps": 300},
            "Paste a page of anything into the box below.",
        ),
    ],
    height=120,
    long=Long(
        seconds=240,
        takes="about half a minute as set at first, and minutes for a larger model",
        quick={"steps": 20, "width": "16", "layers": 1, "batch": "4", "heads": "2"},
        keeps=True,
    ),
)
def live(
    corpus: str, width: str, layers: int, heads: str, rate: str, batch: str, steps: int, seed: int, text: str, run: Run
) -> Steps:
    at = taken_up(run, setting(corpus, text, width, layers, heads, rate, batch, steps, seed))
    for step, looked in going_on(run, at):
        words_now = f"step {step.number} of {steps:.0f}, loss {step.loss:.3f}"
        yield Progress(step.number / steps, words_now, run_shown(at) if looked else None)
    return run_shown(at)


# --- afterwards ------------------------------------------------------------------------------------------------------


@chapter.lab(
    "scrub",
    title="Back through the checkpoints",
    controls=[
        Slider("at", "Checkpoint", 6, 0, LAST),
        Text("prompt", "Text (empty: one of the corpus)", "", limit=200, rows=1),
        Pick("layer", "Layer", -1),
        Pick("head", "Head", 0),
    ],
    runs=[study.read, study.looks_back, study.continued],
    snippet="""
        from engine.recorded_training import recorded
        from engine.training_study import read

        run = recorded()  # your own run: the numbers of the lab above, from the snippet there
        step = run.steps[min({at}, len(run.steps) - 1)]
        prompt = {prompt!r} or "Ada asks Ben for the key and Ben gives Ada the"
        ids = [*run.corpus.start, *run.corpus.encode(prompt)]
        probabilities = read(run.gpt, run.weights(step), ids).probabilities
    """,
    provenance=f"Your own latest run; until there is one, the recorded default run ({COMMAND})",
    presets=[
        Preset("Untrained", {"at": 0, "prompt": ""}, "All tokens alike, and attention spread evenly."),
        Preset(
            "Names first", {"at": 6, "prompt": "Cleo asks Gus for the lamp and"}, "Who gives? Slide back and forth."
        ),
        Preset("Agreement", {"at": 7, "prompt": "the keys near the box"}, "The nearest noun is “box”. fall or falls?"),
        Preset("Another head", {"at": 6, "prompt": "", "layer": 1, "head": 0}, "Each head has a map of its own."),
    ],
    follows="live",
    height=520,
)
def scrubbed(at: int, prompt: str, layer: int, head: int, run: Run | None) -> tuple[Any, ...]:
    back = looked_back(run)
    step = back.steps[min(at, len(back.steps) - 1)]
    weights = back.weights(step)
    ids = prompt_ids(back, prompt)[-16:]
    reading = study.read(back.gpt, weights, ids)
    layer, head = chosen_head(reading, layer, head)
    best = int(np.argmax(reading.probabilities))
    names = back.corpus.vocabulary
    picture = stack(
        row(loss_picture(back, back.curves, step), next_picture(back, reading.probabilities)),
        tokens([{"text": label(names[i])} for i in ids], title="The text so far"),
        row(
            thumbnails(
                reading.attention,
                title="All heads: layers across, heads down",
                pick=("layer", "head"),
                picked=(layer, head),
            ),
            head_picture(back, reading, layer, head),
        ),
        words(sample_at(back, step), title=f"What the model writes after {step} steps"),
    )
    far = float(study.looks_back(reading.attention)[layer, head])
    sentence = (
        f"{whose(back)} after {step} of {back.plan.steps} steps. It goes on with “{label(names[best])}”, "
        f"{100 * float(reading.probabilities[best]):.1f} per cent. The largest weight that layer {layer}, head "
        f"{head} puts on a token further back (not the first) is {100 * far:.0f} per cent, in the mean over the text."
    )
    p = float(reading.probabilities[best])
    formula = rf"\logits{{p}} = {number(p)} \qquad -\ln {number(p)} = {number(-math.log(max(p, 1e-30)))}"
    data = {"probabilities": reading.probabilities, "attention": reading.attention, "step": step}
    return picture, sentence, formula, data, {"at": len(back.steps) - 1}


def chosen_head(reading: study.Reading, layer: int, head: int) -> tuple[int, int]:
    """The picked head; the one that points further back most sharply where none is picked."""
    far = study.looks_back(reading.attention)
    if layer < 0:
        best = np.unravel_index(int(np.argmax(far)), far.shape)
        return int(best[0]), int(best[1])
    return min(layer, far.shape[0] - 1), min(head, far.shape[1] - 1)


@chapter.lab(
    "use",
    title="Use the model",
    controls=[
        Text("prompt", "Text to go on from (empty: an example)", "", limit=200, rows=1),
        Slider("temperature", "Temperature", 1.0, 0.0, 2.0, 0.05),
        Slider("tokens", "Tokens to write", 24, 1, 40),
        Slider("seed", "Seed of the draws", 0, 0, 99),
    ],
    runs=[study.continued],
    snippet="""
        from engine.recorded_training import recorded
        from engine.training_study import continued

        run = recorded()
        prompt = {prompt!r} or "Ada asks Ben for the key and Ben gives Ada the"
        ids = [*run.corpus.start, *run.corpus.encode(prompt)]
        written = continued(run.gpt, run.weights(run.steps[-1]), ids, {tokens}, {temperature}, {seed})
    """,
    provenance=f"Your own latest run; until there is one, the recorded default run ({COMMAND})",
    presets=[
        Preset("Cold", {"temperature": 0.0, "prompt": "", "tokens": 24}, "Always the likeliest word."),
        Preset(
            "Hot", {"temperature": 2.0, "prompt": "", "tokens": 24}, "The rules break one by one: which breaks first?"
        ),
        Preset(
            "A question",
            {"prompt": "who waits ?", "tokens": 3, "temperature": 1.0},
            "Change the seed. Is the verb ever wrong?",
        ),
    ],
    follows="live",
    height=330,
)
def used(prompt: str, temperature: float, tokens: int, seed: int, run: Run | None) -> tuple[Any, ...]:
    back = looked_back(run)
    ids, weights, names = prompt_ids(back, prompt), back.weights(back.steps[-1]), back.corpus.vocabulary
    written = study.continued(back.gpt, weights, ids, int(tokens), temperature, int(seed))
    reading = study.read(back.gpt, weights, ids)
    said = one_line(back.corpus.decode(written))
    picture = stack(
        words(one_line(back.corpus.decode(ids)), title="Given"),
        words(said, title="Written by the model"),
        row(next_picture(back, study.softmax(np.log(reading.probabilities), temperature)),
            readouts(verdict(back, ids, written))),
    )  # fmt: skip
    p = float(reading.probabilities[written[0]])
    sentence = (
        f"{whose(back)} after {back.steps[-1]} steps goes on with “{label(names[written[0]])}”, which had "
        f"{100 * p:.1f} per cent before the temperature of {temperature:.2g} was applied, and writes {len(written)} "
        "tokens with this seed."
    )
    formula = (
        rf"\logits{{p_i}} \propto e^{{z_i / {number(temperature)}}}" if temperature else r"\arg\max_i \logits{z_i}"
    )
    return picture, sentence, formula, {"written": np.array(written), "probabilities": reading.probabilities}


def verdict(back: Any, ids: list[int], written: list[int]) -> list[tuple[str, str]]:
    """What can be said of what the model wrote: whether the grammar allows it, whether the sums are right."""
    facts = [("tokens given", str(len(ids))), ("written", str(len(written)))]
    if back.corpus.name == "grammar":
        right, total = study.grammatical(back.corpus, [*ids, *written])
        facts.append(("whole sentences that the grammar allows", f"{right} of {total}"))
    if back.corpus.text:
        copied = study.longest_copy(written, back.corpus.text)
        facts.append(("longest piece copied from the text", f"{copied} characters"))
    return facts


# --- learning by heart -----------------------------------------------------------------------------------------------


@chapter.lab(
    "heart",
    title="Learning a text by heart",
    controls=[
        Slider("steps", "Steps", 600, 50, 1000, 25),
        Choice("width", "Width", "64", {"16": "16", "32": "32", "64": "64"}),
        Slider("seed", "Seed", 0, 0, 99),
        Text("text", f"The text, at least {2 * (GPT.context + 1)} characters", OWN, limit=6000, rows=4),
    ],
    runs=[training.train, study.longest_copy],
    snippet="""
        from engine.corpora import text_corpus
        from engine.training import GPT, Plan, train

        text = text_corpus({text!r})
        gpt, plan = GPT(len(text.vocabulary), width={width}), Plan(steps={steps}, seed={seed}, warmup=20)
        validation = [step.validation for step in train(gpt, text, plan) if step.validation is not None]
    """,
    provenance="A real training run on this server; the stories are the project's own",
    presets=[
        Preset("Stop in time", {"steps": 125, "width": "64"}, "About where validation turns."),
        Preset(
            "A smaller model",
            {"width": "16", "steps": 600},
            "Far fewer parameters. Does validation still turn round, and how low does training get?",
        ),
    ],
    height=120,
    long=Long(seconds=150, takes="20 to 60 seconds", quick={"steps": 50, "width": "16"}),
)
def by_heart(steps: int, width: str, seed: int, text: str) -> Steps:
    try:
        chosen = text_corpus(text)
    except ValueError as problem:
        raise ReaderError(str(problem)) from problem
    plan = Plan(steps=int(steps), seed=int(seed), warmup=20)
    at = Progressing(Setting(chosen, GPT(len(chosen.vocabulary), width=int(width)), plan), study.Curves(), [], None)
    for step in train(at.setting.gpt, chosen, plan):
        at.curves.add(step)
        at.now = step.checkpoint
        shown = heart_shown(at) if step.validation is not None else None
        yield Progress(step.number / steps, f"step {step.number} of {steps:.0f}", shown)
    return heart_shown(at)


def heart_shown(at: Progressing) -> tuple[Any, ...]:
    chosen, curves = at.setting, at.curves
    assert at.now is not None
    read_once = len(chosen.corpus.text)
    epochs = at.now.step * chosen.plan.batch * chosen.gpt.context / read_once
    written = study.continued(chosen.gpt, at.now.parameters, chosen.corpus.start, 60, 0.5, 0)
    copied = study.longest_copy(written, chosen.corpus.text)
    best = int(np.argmin(curves.validation))
    train_loss = float(curves.smooth()[1][-1])
    picture = stack(
        loss_picture(chosen, curves),
        words(one_line(chosen.corpus.decode(written)), title="What the model writes (temperature 0.5)"),
        readouts(
            [
                ("characters to learn from", f"{read_once:,}"),
                ("parameters", f"{chosen.gpt.parameter_count:,}"),
                ("times through the text", f"{epochs:.1f}"),
                ("longest piece copied", f"{copied} of {len(written)} characters"),
            ]
        ),
    )
    turned = curves.validation[-1] > curves.validation[best] + 0.05
    story = (
        f"Validation was lowest, {curves.validation[best]:.3f}, after {curves.looks[best]} steps and has risen to "
        f"{curves.validation[-1]:.3f} since"
        if turned
        else f"Validation is {curves.validation[-1]:.3f}, and has not turned up yet"
    )
    sentence = (
        f"After {at.now.step} steps, {epochs:.1f} times through the text, the training loss is {train_loss:.3f}. "
        f"{story}. Of what the model writes, {copied} characters in a row stand in the text."
    )
    last = curves.validation[-1]
    gap = rf"{number(last)} - {number(train_loss)} = {number(last - train_loss)}"
    formula = rf"\text{{validation}} - \text{{training}} = {gap}"
    return picture, sentence, formula, {"validation": np.array(curves.validation), "losses": np.array(curves.losses)}


# --- numbers in the prose, and answers -------------------------------------------------------------------------------


@chapter.number
def vocabulary() -> str:
    return str(recorded().gpt.vocabulary)


@chapter.number
def log_vocabulary() -> str:
    return f"{math.log(recorded().gpt.vocabulary):.3f}"


@chapter.number
def first_loss() -> str:
    return f"{recorded().curves.validation[0]:.3f}"


@chapter.number
def parameters() -> str:
    return f"{default_gpt().parameter_count:,}"


@chapter.number
def floor() -> str:
    return f"{rules.grammar().floor(recorded().gpt.context):.3f}"


@chapter.number
def shallow() -> str:
    return f"{rules.grammar().shallow_floor(recorded().gpt.context):.3f}"


@chapter.number
def last_validation() -> str:
    return f"{recorded().curves.validation[-1]:.3f}"


@chapter.number
def near_floor() -> str:
    """The first step at which the recorded run's validation loss is within 0.1 of the floor."""
    goal = rules.grammar().floor(recorded().gpt.context) + 0.1
    return str(
        next(
            look
            for look, loss in zip(recorded().curves.looks, recorded().curves.validation, strict=True)
            if loss < goal
        )
    )


def _learned(skill: int) -> str:
    found = learned_at(recorded().curves, skill)
    return f"step {found}" if found is not None else "no step of the run"


@chapter.number
def names_learned() -> str:
    return _learned(1)


@chapter.number
def thing_learned() -> str:
    return _learned(2)


@chapter.number
def question_cost() -> str:
    return f"{recorded().curves.excess[-1][3]:.2f}"


@chapter.number
def log_verbs() -> str:
    return f"{math.log(len(rules.VERBS)):.2f}"


BEFORE, AFTER = 5, 6  # two kept checkpoints in a row, between which a head becomes sharp


def _from_gives_to_ada(index: int) -> str:
    """The largest weight that any head of the recorded run puts from “gives” on the name that comes next."""
    run = recorded()
    ids = prompt_ids(run, "")
    places = [run.corpus.vocabulary[i] for i in ids]
    maps = study.read(run.gpt, run.weights(run.steps[index]), ids).attention
    return f"{100 * float(np.max(maps[:, :, places.index('gives'), places.index('Ada')])):.0f}"


@chapter.number
def step_before() -> str:
    return str(recorded().steps[BEFORE])


@chapter.number
def step_after() -> str:
    return str(recorded().steps[AFTER])


@chapter.number
def weight_before() -> str:
    return _from_gives_to_ada(BEFORE)


@chapter.number
def weight_after() -> str:
    return _from_gives_to_ada(AFTER)


@chapter.number
def tokens_a_step() -> str:
    return f"{Plan().batch * recorded().gpt.context:,}"


@chapter.number
def tokens_in_all() -> str:
    return f"{Plan().batch * recorded().gpt.context * Plan().steps:,}"


@chapter.answer
def untrained_loss() -> float:
    return recorded().curves.validation[0]


@chapter.answer
def learned_last() -> str:
    """The skill that costs most at the end of the recorded run."""
    return list(study.SKILLS)[int(np.argmax(recorded().curves.excess[-1]))]


@chapter.answer
def step_change(rate: float, at: int, seed: int) -> str:
    run = recorded()
    step = study.one_step(run.gpt, run.weights(at_index(at)), batch_of(seed, at), batch_of(1000, at), float(10**rate))
    gained = step.after.loss - step.before.loss
    return "rises" if gained > 0 else "falls as predicted" if gained < 0.9 * step.predicted else "falls less"


# The second half of the page declares its labs on the same chapter.
assert _training_more.chapter is chapter

chapter.code["loss"] = gpt_module.loss
chapter.code["batch_step"] = training.batch_step
chapter.code["choices"] = rules.choices

register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
