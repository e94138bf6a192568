"""What the post-training page draws of models that are asked and tuned: the real one, and a small GPT."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine import chat_study, fine_tuning, real_lora
from engine.ledger import CONFIGS
from engine.model import END_IDS
from pages._continuations import bar_label
from pages._reading import piece, written
from ui.figures import bars, curve, readouts, row, stack, table, tokens, words
from ui.mathml import number

SAMPLE = 24
"""Tokens that the tuned model says."""


def said_chips(prompt: list[int], said: tuple[chat_study.Said, ...], title: str, name: str, place: int) -> Any:
    """What was asked, faint, and what was said, tinted by how sure the model was; a click opens a token."""
    return stack(
        tokens(
            [{"text": piece(i), "key": f"{name}:prompt:{j}"} for j, i in enumerate(prompt)],
            title=f"{title}: what the model is given",
            show=["no-ids"],
        ),
        tokens(
            [{"text": piece(one.id), "note": f"{one.p:.0%}", "key": f"{name}:{j}"} for j, one in enumerate(said)],
            title="… and what it writes; click a token",
            pick="at",
            picked=place if place < len(said) else None,
            shares=[one.p for one in said],
            show=["no-ids"],
        ),
    )


def candidate_bars(said: tuple[chat_study.Said, ...], place: int, how: str) -> Any:
    if place >= len(said):
        return words("It had ended its text before this token.", title=f"Token {place + 1}, asked {how}")
    one = said[place]
    return bars(
        [bar_label(i) for i in one.candidates],
        one.probabilities,
        title=f"Token {place + 1}, asked {how}: the likeliest",
        tensor="logits",
        share=True,
        limit=1.0,
        marked=[0],
    )


def ended(said: tuple[chat_study.Said, ...], how: str) -> str:
    """Whether the model came to an end of its own."""
    if said[-1].id in END_IDS:
        return f"{how}, it ended its text after {len(said) - 1} tokens."
    return f"{how}, it has not come to an end after {len(said)}."


def base_curve(moments: list[fine_tuning.Moment]) -> Any:
    return curve(
        [("loss", [m.step for m in moments], [m.loss for m in moments])],
        title="Stage one: continue the text", x_label="step", y_label="nats a token", tensors=["grad"],
    )  # fmt: skip


def tuned_curve(moments: list[fine_tuning.Moment]) -> Any:
    looked = [m for m in moments if m.answers is not None]
    return curve(
        [("what it learns from", [m.step for m in moments], [m.loss for m in moments]),
         ("answers about the other animals", [m.step for m in looked], [m.answers for m in looked])],
        title="Stage two: dialogues", x_label="step", y_label="nats a token", tensors=["grad", "logits"],
    )  # fmt: skip


def tuned_shown(
    first: list[fine_tuning.Moment], then: list[fine_tuning.Moment], shown: int, mask: bool
) -> tuple[Any, ...]:
    base, tuned, unseen = then[0].parameters, then[-1].parameters, shown
    right, before = then[-1].right or 0.0, then[0].right or 0.0
    ids, counts = fine_tuning.dialogue(unseen, "says")
    asked = fine_tuning.question(unseen, "says")
    picture = stack(
        row(base_curve(first), tuned_curve(then)),
        tokens(
            [{"text": fine_tuning.WORDS[i], "key": f"t:{j}"} for j, i in enumerate(ids)],
            title="A dialogue; the tokens that count are marked",
            marked=[j for j, counted in enumerate(counts) if counted or not mask],
            show=["no-ids"],
        ),
        table(
            ["model", "is given", "goes on with"],
            [["base", asked, fine_tuning.asked(base, unseen, "says", False)],
             ["tuned", asked, fine_tuning.asked(tuned, unseen, "says", False)],
             ["base", f"<user> {asked} <assistant>", fine_tuning.asked(base, unseen, "says", True)],
             ["tuned", f"<user> {asked} <assistant>", fine_tuning.asked(tuned, unseen, "says", True)]],
            title=f"Asked about the {fine_tuning.ANIMALS[unseen]}, of which no dialogue spoke",
        ),
        readouts([("parameters", f"{fine_tuning.BASE.parameter_count:,}"),
                  ("right before", f"{before:.0%}"), ("right after", f"{right:.0%}"),
                  ("loss on those answers", f"{then[0].answers:.2f} → {then[-1].answers:.2f}")]),
    )  # fmt: skip
    sentence = (
        f"After {fine_tuning.TUNING_STEPS} steps on dialogues about {shown} of the 12 animals, the model answers "
        f"{right:.0%} of the questions about the others word for word (before: {before:.0%}). "
        "No dialogue told it these facts: what it gets right, it had read in the base text."
    )
    formula = (
        rf"\text{{loss: }} {number(then[0].loss, 3)} \to {number(then[-1].loss, 3)}, \qquad "
        rf"\text{{answers about others: }} {number(float(then[0].answers or 0), 3)} \to "
        rf"{number(float(then[-1].answers or 0), 3)}"
    )
    return picture, sentence, formula, {
        "right": right, "answers": float(then[-1].answers or 0), "losses": np.array([m.loss for m in then]),
    }  # fmt: skip


def lesson_curve(lessons: list[real_lora.Lesson]) -> Any:
    return curve(
        [("loss on the answer", [one.step for one in lessons], [one.loss for one in lessons])],
        title="Loss on the answer's tokens", x_label="step", y_label="nats a token", tensors=["grad"], points=True,
    )  # fmt: skip


def taught(lessons: list[real_lora.Lesson], said: dict[str, list[int]], rank: int, note: str) -> tuple[Any, ...]:
    trained = real_lora.parameters_in(lessons[-1].adapters)
    total = CONFIGS["SmolLM2-135M"].parameters
    picture = stack(
        lesson_curve(lessons),
        row(
            words(written(said["before"]), title="Asked what it learns, before", style="model"),
            words(written(said["after"]), title="… and after", style="model"),
        ),
        row(
            words(written(said["other before"]), title="Asked something else, before", style="model"),
            words(written(said["other after"]), title="… and after", style="model"),
        ),
        readouts([("trained", f"{trained:,}"), ("of", f"{total:,}"), ("share", f"{trained / total:.3%}"),
                  ("rank", str(rank))]),
    )  # fmt: skip
    kept = said["other before"] == said["other after"]
    text = (
        f"{note}With {trained:,} trained numbers, {trained / total:.2%} of the model, the loss on the answer went from "
        f"{lessons[0].loss:.2f} to {lessons[-1].loss:.2f} nats a token in {lessons[-1].step} steps. The answer to "
        f"the other "
        + (
            "question is word for word what it was."
            if kept
            else "question, which was never trained, has changed as well."
        )
    )
    formula = rf"\text{{loss: }} {number(lessons[0].loss)} \to {number(lessons[-1].loss)} \;\text{{nats}}"
    return picture, text, formula, {"losses": [one.loss for one in lessons], "after": np.array(said["after"])}
