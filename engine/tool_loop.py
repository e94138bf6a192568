"""The loop of tool calling: the model writes a call, a program runs it, its result goes into the context, and on.

The model itself runs nothing. It writes a line of text; the program around it finds that line, runs the tool, adds the
result to the text, and lets the model go on. Decoding under a grammar sets the probability of every token that could
not continue a valid call to zero (Willard and Louf 2023, arXiv:2307.09702). Left out: calls side by side, and tools
that change something in the world.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool

from engine.chat_template import Part, Rendered, render
from engine.model import END_IDS, Model
from engine.retrieval_study import Said, said_text
from engine.sampling import softmax
from engine.tokenization import ENCODINGS, decode, decoded, encode, token_bytes
from engine.tools import CALLS, TOOLS, Call, find_call, run_call

MOST_CALLS = 2
LINE = 64  # tokens that a call or an answer may have; the longest call of the grammar has fewer

SHOTS = (
    ("What is 12 times 9?", "calculator: 12 * 9", "108", "12 times 9 is 108."),
    ("How many kilometres are 3 miles?", "convert: 3 miles to kilometres", "4.828032 kilometres",
     "3 miles are 4.828032 kilometres."),
    ("A box weighs 16 kilograms. What do 40 boxes weigh?", "calculator: 16 * 40", "640",
     "40 boxes weigh 640 kilograms."),
    ("What is 640 divided by 16?", "calculator: 640 / 16", "40", "640 divided by 16 is 40."),
)  # fmt: skip


def instructions() -> str:
    """What the model is told of the tools, with one example of each step: the only way for it to know of them."""
    told = [f"{tool.name}: {tool.says}" for tool in TOOLS.values()]
    worked = [f"Question: {ask}\n{call}\nResult: {result}\nAnswer: {answer}" for ask, call, result, answer in SHOTS]
    return "\n\n".join(["Use a tool to answer.\n" + "\n".join(told), *worked])


def beginning(question: str, chat: bool = False) -> Rendered:
    """Where the loop begins: instructions and question, as a plain text to go on with, or in the chat template."""
    text = f"{instructions()}\n\nQuestion: {' '.join(question.split())}\n"
    if chat:
        return render([{"role": "user", "content": text}])
    return Rendered((Part(text, False, tuple(encode(text, "smollm2"))),))


# Decoding under the grammar ------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _by_first_letter() -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    """All tokens that are whole characters, by the first: their ids and their texts."""
    found: dict[str, list[tuple[int, str]]] = {}
    for token in range(len(ENCODINGS["smollm2"].special), ENCODINGS["smollm2"].vocabulary_size):
        if text := decoded(token_bytes(token, "smollm2")):
            found.setdefault(text[0], []).append((token, text))
    return {
        first: (np.array([i for i, _ in group]), tuple(text for _, text in group)) for first, group in found.items()
    }


def allowed(written: str) -> Bool[np.ndarray, "V"]:
    """For every token: does the text written so far, with this token after it, still begin a valid call?"""
    fits = np.zeros(ENCODINGS["smollm2"].vocabulary_size, bool)
    for first, (ids, texts) in _by_first_letter().items():
        if CALLS.fullmatch(written + first, partial=True):
            fits |= np.isin(
                np.arange(len(fits)), ids[[bool(CALLS.fullmatch(written + t, partial=True)) for t in texts]]
            )
    return fits


def write_call(model: Model, ids: Sequence[int]) -> Iterator[Said]:
    """A call, token by token, each the likeliest of those that the grammar allows; ends with the call's line."""
    share = 1.0

    def choose(logits: np.ndarray, text: list[int]) -> int:
        nonlocal share
        fits = allowed(decode(text[len(ids) :], "smollm2"))
        share = float(np.sum(softmax(logits), where=fits))
        return int(np.argmax(np.where(fits, logits, -np.inf)))

    written: list[int] = []
    for step in model.generate(ids, LINE, choose, stop=()):
        written.append(step.id)
        yield Said(step.id, float(softmax(step.logits)[step.id]), share)
        if CALLS.fullmatch(decode(written, "smollm2")):
            return


def write_line(model: Model, ids: Sequence[int]) -> Iterator[Said]:
    """What the model writes by itself, up to the end of the line or of its turn."""
    for step in model.generate(ids, LINE):
        yield Said(step.id, float(softmax(step.logits)[step.id]))
        if b"\n" in token_bytes(step.id, "smollm2"):
            return


def holds_number(text: str, number: str) -> bool:
    """Does a text have this number, and not only as a part of a longer one? "5" is not in "15" or "5.2"."""
    return bool(re.search(rf"(?<![\d.]){re.escape(number)}(?!\.?\d)", text))


# The loop ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """One time round: the line that the model wrote, and the call in it with its result, if there was one."""

    said: tuple[Said, ...]
    enforced: bool  # under the grammar
    call: Call | None = None

    @property
    def text(self) -> str:
        """What the model wrote."""
        return said_text(self.said)

    @property
    def ids(self) -> tuple[int, ...]:
        """What the round adds to the text: the line, and below it the result, which the program writes."""
        line = [said.id for said in self.said if said.id not in END_IDS]
        if self.call is None:
            return tuple(line)
        ending = "" if self.text.endswith("\n") else "\n"
        return (*line, *encode(f"{ending}Result: {self.call.result}\n", "smollm2"))


@dataclass(frozen=True)
class Loop:
    """How far the loop is: how it began, and its rounds."""

    start: Rendered
    rounds: tuple[Round, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """All that the model is given for its next line."""
        return (*self.start.ids, *(i for line in self.rounds for i in line.ids))


def run_loop(model: Model, question: str, enforce: bool, chat: bool = False) -> Iterator[Loop]:
    """The loop after every token, and after every line: then the line's call has run, if it holds one.

    `enforce` puts the first line under the grammar; without it the model decides alone. `chat` as in `beginning`.
    At most two calls are run.
    """
    loop = Loop(beginning(question, chat), ())
    for number in range(MOST_CALLS + 1):
        enforced = enforce and not number
        said: tuple[Said, ...] = ()
        for token in (write_call if enforced else write_line)(model, loop.ids):
            said = (*said, token)
            yield replace(loop, rounds=(*loop.rounds, Round(said, enforced)))
        found = find_call(said_text(said)) if number < MOST_CALLS else None
        line = Round(said, enforced, run_call(*found) if found else None)
        loop = replace(loop, rounds=(*loop.rounds, line))
        yield loop
        if not found:
            return
