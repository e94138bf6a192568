"""The chat template: a conversation as the one text that the model was trained to continue.

A chat model has no turns inside. The template, a small Jinja program that the model's file carries, writes all messages
into one text with special tokens between them, and the model goes on from there. Special tokens get in through the
template alone: `<|im_end|>` typed inside a message stays ordinary text, of several tokens, and ends nothing. (Libraries
that tokenize the finished text as a whole cannot tell the two apart.) The template runs in Jinja's sandbox.

Source: the key `tokenizer.chat_template` of the GGUF file; the form is OpenAI's ChatML. Left out: messages that hold
pictures or calls as data, and templates that print the date.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

import jinja2
import regex
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.gguf_file import read_metadata
from engine.tokenization import ENCODINGS, clean, decode, encode, token_bytes
from engine.weights import gguf_path

START, END = (ENCODINGS["smollm2"].special[name] for name in ("<|im_start|>", "<|im_end|>"))
Message = Mapping[str, str]  # {"role": "user", "content": "Hello"}


@dataclass(frozen=True)
class Part:
    """A run of the rendered text: one special token, or ordinary text between two of them."""

    text: str
    special: bool
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Rendered:
    """A conversation as the model gets it."""

    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The whole text, special tokens by name."""
        return "".join(part.text for part in self.parts)

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids that go into the model."""
        return tuple(i for part in self.parts for i in part.ids)


@dataclass(frozen=True)
class Turn:
    """Where one message stands among the ids: ids[start:end] is what was said, its closing special token included."""

    role: str
    start: int
    end: int
    closed: bool  # False while the model still has to write it


def template_of(name: str = "smollm2") -> str:
    """The Jinja source in the model's file. Raises ModelMissing or ModelBroken."""
    gguf_path(name)
    return _template(name)


def render(messages: Sequence[Message], *, add_generation_prompt: bool = True, template: str | None = None) -> Rendered:
    """The messages, each {"role": …, "content": …}, in the model's own template or another Jinja source.

    `add_generation_prompt` opens the assistant's turn at the end. Raises ModelMissing or ModelBroken without the
    model's file, ValueError for messages or templates that do not work.
    """
    source = template_of() if template is None else template
    said = [_checked(message) for message in messages]
    if not said:
        raise ValueError("A conversation needs at least one message.")
    mark = _unused_character("".join(text for message in said for text in message.values()))
    disarmed = [{name: _disarm(text, mark) for name, text in message.items()} for message in said]
    try:
        text = _compiled(source).render(messages=disarmed, add_generation_prompt=add_generation_prompt)
    except jinja2.TemplateError as problem:
        raise ValueError(f"The chat template refused these messages: {str(problem).rstrip('.')}.") from problem
    return Rendered(tuple(_part(piece, mark) for piece in _SPECIAL.split(text) if piece))


def turns(ids: Sequence[int]) -> tuple[Turn, ...]:
    """The messages that stand in a list of ids, found by their special tokens, which no message can contain.

    Training on answers alone takes ids[turn.start : turn.end] of the assistant's turns.
    """
    starts = [place for place, i in enumerate(ids) if i == START]
    found = []
    for start, limit in zip(starts, [*starts[1:], len(ids)], strict=True):
        ends = [place for place in range(start, limit) if ids[place] == END]
        end = ends[0] + 1 if ends else limit
        role, body = _role(ids[start + 1 : end])
        found.append(Turn(role, start + 1 + body, end, bool(ends)))
    return tuple(found)


# How typed special tokens stay text: a character that no message holds is put into their names while the template runs.

_NAMES = sorted(ENCODINGS["smollm2"].special, key=len, reverse=True)
_SPECIAL = regex.compile("(" + "|".join(map(regex.escape, _NAMES)) + ")")


def _disarm(text: str, mark: str) -> str:
    return _SPECIAL.sub(lambda name: name[0][0] + mark + name[0][1:], text)


def _part(text: str, mark: str) -> Part:
    if text in _NAMES:
        return Part(text, True, (ENCODINGS["smollm2"].special[text],))
    plain = text.replace(mark, "")
    return Part(plain, False, tuple(encode(plain, "smollm2")))


def _unused_character(text: str) -> str:
    used = set(text)
    return next(character for code in range(0xF0000, 0xFFFFE) if (character := chr(code)) not in used)


def _checked(message: Message) -> dict[str, str]:
    if not all(isinstance(message.get(name), str) for name in ("role", "content")):
        raise ValueError("A message needs a role and a content, both texts.")
    return {name: clean(message[name])[0] for name in ("role", "content")}


def _role(ids: Sequence[int]) -> tuple[str, int]:
    """The role that a turn begins with, and how many tokens it takes with its line break (and white space after it)."""
    breaks = [place for place, i in enumerate(ids) if b"\n" in token_bytes(i, "smollm2")]
    length = breaks[0] + 1 if breaks else len(ids)
    return decode(ids[:length], "smollm2").partition("\n")[0], length


@lru_cache(maxsize=1)
def _template(name: str) -> str:
    return str(read_metadata(gguf_path(name))["tokenizer.chat_template"])


@lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    """With the settings that published templates are written for: no line break after a tag, no space before it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(source)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
