"""Facts that the model knows, each with what an edit shall make it say instead, and the prompts that test the edit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """A prompt with the answer that is right without the edit, by what the edit ought to do to it."""

    kind: str  # "edited", "reworded" (should change too), "other" subject or "unrelated" (should both stay)
    prompt: str
    answer: str


@dataclass(frozen=True)
class Fact:
    """One fact to change: after `prompt`, the model says `old`, and shall say `new`. Each is one token."""

    name: str
    prompt: str
    subject: str  # as it stands in the prompt; the edit is made at its last token
    old: str
    new: str
    probes: tuple[Probe, ...]  # the first is the prompt itself


UNRELATED = (("The Earth revolves around the", " Sun"), ("Once upon a", " time"))

SENTENCES = (  # for the loss on text that has nothing to do with any of the facts
    "She put the letter on the table.",
    "Plants turn light and water into sugar.",
    "The train was late because of snow.",
)


def _fact(
    name: str,
    prompt: str,
    subject: str,
    old: str,
    new: str,
    reworded: tuple[str, ...],
    other: tuple[tuple[str, str], ...],
) -> Fact:
    probes = (
        Probe("edited", prompt, old),
        *(Probe("reworded", text, old) for text in reworded),
        *(Probe("other", *pair) for pair in other),
        *(Probe("unrelated", *pair) for pair in UNRELATED),
    )
    return Fact(name, prompt, subject, old, new, probes)


FACTS: dict[str, Fact] = {
    "france": _fact(
        "The capital of France: Paris → Rome", "The capital of France is", "France", " Paris", " Rome",
        ("The capital city of France is called", "The name of the capital of France is",
         "The capital of the country of France is"),
        (("The capital of Germany is", " Berlin"), ("The capital of Japan is", " Tokyo"),
         ("People in France speak", " French")),
    ),
    "eiffel": _fact(
        "The Eiffel Tower: Paris → Rome", "The Eiffel Tower is located in the city of", "Eiffel Tower", " Paris",
        " Rome",
        ("The Eiffel Tower is in", "The Eiffel Tower can be found in", "To see the Eiffel Tower, travel to"),
        (("The Louvre is located in the city of", " Paris"), ("The Statue of Liberty is located in", " New"),
         ("The Eiffel Tower was built by Gustave", " E")),
    ),
    "gold": _fact(
        "The symbol for gold: Au → Pb", "The chemical symbol for gold is", "gold", " Au", " Pb",
        ("The chemical symbol of gold is", "In the periodic table, gold is written as"),
        (("The chemical symbol for silver is", " Ag"), ("The chemical symbol for iron is", " Fe"),
         ("The chemical symbol for oxygen is", " O")),
    ),
    "hot": _fact(
        "The opposite of hot: cold → blue", "The opposite of hot is", "hot", " cold", " blue",
        ("The antonym of hot is", "A stove is hot, and ice is"),
        (("The opposite of up is", " down"), ("The opposite of black is", " white"),
         ("The opposite of day is", " night")),
    ),
    "hamlet": _fact(
        "Who wrote Hamlet: Shakespeare → Wordsworth", "The author of Hamlet is William", "Hamlet", " Shakespeare",
        " Wordsworth",
        ("Hamlet was written by William", "The man who wrote Hamlet was William"),
        (("The author of Macbeth is William", " Shakespeare"), ("The author of Don Quixote is Miguel de", " Cerv"),
         ("The play Romeo and Juliet is by William", " Shakespeare")),
    ),
}  # fmt: skip
