"""A chapter: prose from its Markdown file, labs from its Python file, questions from its TOML file, one page."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from dash import Input, Output, callback, dcc, html
from dash.development.base_component import Component

from ui import lab as labs
from ui.controls import Control
from ui.jobs.work import Long
from ui.lab import Lab, Preset
from ui.mathml import superscript
from ui.prose import Section, function_html, inline, sections
from ui.static import raw

WORDS_PER_MINUTE = 200
MINUTES_PER_LAB = 1.5


@dataclass(frozen=True)
class Entry:
    """A line of the book's table of contents (`pages/contents.toml`)."""

    slug: str
    number: int
    title: str
    idea: str
    path: str
    part: str
    written: bool = True


@dataclass
class Book:
    """The table of contents, the chapters that are written, and the words that prose defines."""

    entries: tuple[Entry, ...] = ()
    chapters: dict[str, Chapter] = field(default_factory=dict)
    terms: dict[str, str] = field(default_factory=dict)
    before_serving: list[Callable[[], Any]] = field(default_factory=list)
    """What to prepare once, before the first reader comes and before worker processes part."""

    def load(self, folder: Path) -> None:
        listed = tomllib.loads((folder / "contents.toml").read_text("utf-8"))
        self.entries = tuple(Entry(**line) for line in listed["chapter"])
        self.terms = tomllib.loads((folder / "terms.toml").read_text("utf-8"))

    def at(self, path: str) -> Entry | None:
        wanted = "/" + path.strip("/")
        return next((entry for entry in self.entries if entry.path == wanted), None)

    def entry(self, slug: str) -> Entry:
        return next(entry for entry in self.entries if entry.slug == slug)

    def neighbours(self, entry: Entry) -> tuple[Entry | None, Entry | None]:
        at = self.entries.index(entry)
        return (self.entries[at - 1] if at else None), (self.entries[at + 1] if at + 1 < len(self.entries) else None)


BOOK = Book()


class Chapter:
    """What a page file declares. It finds attention.md and attention.toml beside pages/attention.py."""

    def __init__(self, module: str, folder: Path) -> None:
        self.slug = module.rsplit(".", 1)[-1].replace("_", "-")
        self.folder = folder
        self.file = module.rsplit(".", 1)[-1]
        self.entry = BOOK.entry(self.slug)
        self.labs: dict[str, Lab] = {}
        self.numbers: dict[str, Any] = {}
        self.code: dict[str, Callable[..., Any]] = {}
        self.answers: dict[str, Callable[..., Any]] = {}
        BOOK.chapters[self.slug] = self
        self._register_questions()

    # -- declared by the page file ---------------------------------------------------------------------------------

    def lab(
        self,
        name: str,
        *,
        title: str,
        controls: Sequence[Control] = (),
        runs: Sequence[Callable[..., Any]],
        snippet: str,
        provenance: str,
        presets: Sequence[Preset] = (),
        real: bool = False,
        height: int | tuple[int, int] = 200,
        cached: bool = True,
        long: Long | None = None,
        follows: str = "",
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a lab and give the function back unchanged, so that a test calls it without Dash."""

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            declared = Lab(
                chapter=self.slug,
                name=name,
                function=function,
                title=title,
                controls=labs.own_names(controls),
                runs=tuple(runs),
                snippet=snippet,
                provenance=provenance,
                presets=tuple(presets),
                real=real,
                height=height,
                cached=cached,
                long=long,
                follows=follows,
            )
            labs.register(declared)
            self.labs[name] = declared
            return function

        return declare

    def number(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Declare a number of the prose: `{{name}}` in the Markdown is what this function computes."""
        self.numbers[function.__name__] = function
        return function

    def answer(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Declare who computes the answer of the question with this function's name."""
        self.answers[function.__name__] = function
        return function

    # -- what the page is made of ----------------------------------------------------------------------------------

    @cached_property
    def sections(self) -> list[Section]:
        source = (self.folder / f"{self.file}.md").read_text("utf-8")
        computed = {name: function() for name, function in self.numbers.items()}
        return sections(source, computed, self.slug)

    @cached_property
    def questions(self) -> list[dict[str, Any]]:
        path = self.folder / f"{self.file}.toml"
        return list(tomllib.loads(path.read_text("utf-8")).get("question", [])) if path.exists() else []

    @cached_property
    def minutes(self) -> int:
        words = sum(len(part.content.split()) for part in self.sections if part.kind == "prose")
        return max(1, round(words / WORDS_PER_MINUTE + MINUTES_PER_LAB * len(self.labs)))

    def layout(self, /, **query: Any) -> Component:
        """The page for a link's query; unknown keys are ignored, broken values become defaults."""
        parts: list[Component] = [raw(self._header(), "header")]
        for index, section in enumerate(self.sections):
            parts.append(self._section(section, index, query))
        parts.append(raw(self._check() + turn_html(self.entry), "end"))
        parts += [dcc.Store(id=f"{self.slug}-guess"), dcc.Store(id=f"{self.slug}-verdict")]
        marked: dict[str, Any] = {"data-chapter": self.slug}
        return html.Article(parts, id="page", className="chapter", **marked)

    def _section(self, section: Section, index: int, query: Mapping[str, Any]) -> Component:
        if section.kind == "prose":
            return raw(section.content, f"prose-{index}", className="prose")
        if section.kind == "code":
            return raw(function_html(self.code[section.content]), f"code-{index}", className="prose")
        lab = self.labs[section.content]
        return labs.component(lab, labs.first_answer(lab, query))

    def first_answers(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """For each lab what the browser needs: its declaration, and for hand-sized labs the first picture."""
        return {lab.id: labs.declaration(lab) | {"first": labs.first_answer(lab, query)} for lab in self.placed_labs}

    @cached_property
    def placed_labs(self) -> list[Lab]:
        return [self.labs[section.content] for section in self.sections if section.kind == "lab"]

    def _header(self) -> str:
        entry = self.entry
        number = f"Chapter {entry.number}" if entry.number else "Start here"
        return (
            f'<header class="chapter-head"><p class="chapter-number">{number}</p>'
            f'<h1 tabindex="-1">{escape(entry.title)}</h1><p class="idea">{escape(entry.idea)}</p>'
            f'<p class="minutes">{self.minutes} minutes with the labs</p></header>'
        )

    def _check(self) -> str:
        if not self.questions:
            return ""
        asked = "".join(self._question(question, index) for index, question in enumerate(self.questions))
        return (
            '<section class="check" aria-labelledby="check-title"><h2 id="check-title">Check yourself</h2>'
            "<p>Guess first. The engine computes the answer when you have chosen. "
            "Your answers stay in this browser.</p>"
            f"{asked}</section>"
        )

    def _question(self, question: Mapping[str, Any], index: int) -> str:
        choices = "".join(
            f'<button type="button" data-choice="{number}">{inline(choice["say"])}</button>'
            for number, choice in enumerate(question["choice"])
        )
        uses = f"{self.slug}-{question['lab']}" if "lab" in question else ""
        return (
            f'<fieldset class="question" data-question="{index}" data-uses="{uses}"><legend>{inline(question["ask"])}'
            f'</legend><div class="choices">{choices}</div><p class="verdict" role="status"></p></fieldset>'
        )

    # -- check yourself --------------------------------------------------------------------------------------------

    def _register_questions(self) -> None:
        @callback(
            Output(f"{self.slug}-verdict", "data"), Input(f"{self.slug}-guess", "data"), prevent_initial_call=True
        )
        def verdict(guess: Any) -> dict[str, Any]:
            return self.judge(guess if isinstance(guess, dict) else {})

    def judge(self, guess: Mapping[str, Any]) -> dict[str, Any]:
        """{question, choice, values} -> which choice is right, and why, by the engine's own numbers."""
        index, choice = guess.get("question"), guess.get("choice")
        if not isinstance(index, int) or not 0 <= index < len(self.questions):
            return {"say": "There is no such question."}
        question = self.questions[index]
        if not isinstance(choice, int) or not 0 <= choice < len(question["choice"]):
            return {"question": index, "say": "There is no such choice."}
        try:
            computed = self.compute_answer(question, guess.get("values"))
        except (labs.ReaderError, ValueError) as problem:
            return {"question": index, "say": str(problem) if labs.is_sentence(str(problem)) else "No answer today."}
        right = right_choice(question, computed)
        says = question["choice"][choice]["why"].replace("{value}", written(computed))
        return {
            "question": index,
            "choice": choice,
            "right": right,
            "say": inline(says),
            "computed": f"Computed just now: {written(computed)}",
        }

    def compute_answer(self, question: Mapping[str, Any], raw_values: Any = None) -> Any:
        """The engine's answer; from the reader's own control values where the question names a lab."""
        values: dict[str, Any] = {}
        if "lab" in question:
            values, _ = self.labs[question["lab"]].clean(raw_values if isinstance(raw_values, dict) else {})
        return self.answers[question["answer"]](**values)


def turn_html(entry: Entry) -> str:
    """The way to the chapter before and the one after."""
    before, after = BOOK.neighbours(entry)
    back = f'<a rel="prev" href="{before.path}"><small>Previous</small>{escape(before.title)}</a>' if before else ""
    on = f'<a rel="next" href="{after.path}"><small>Next</small>{escape(after.title)}</a>' if after else ""
    return f'<nav class="turn" aria-label="Previous and next chapter">{back}{on}</nav>'


def right_choice(question: Mapping[str, Any], computed: Any) -> int:
    """The choice whose value is what was computed: equal for words and truth values, the nearest for numbers."""
    values = [choice["value"] for choice in question["choice"]]
    if isinstance(computed, (str, bool)):
        return values.index(computed)
    return min(range(len(values)), key=lambda i: abs(values[i] - computed))


def written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    mantissa, _, exponent = f"{value:.4g}".partition("e")
    return mantissa.replace("-", "−") + (f" · 10{superscript(int(exponent))}" if exponent else "")


def as_script_json(value: Any) -> str:
    """JSON that is safe inside a script element."""
    return (
        json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        .replace("<", "\\u003c")
        .replace("\u2028", "\\u2028")
    )
