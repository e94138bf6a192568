"""The controls that a lab can declare: what each looks like, and what becomes of whatever a browser sends for it.

A control never trusts its input. `clean` turns any JSON value, or any text from a link, into a value the lab can use,
and says in a plain sentence what it changed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import dash_bootstrap_components as dbc
from dash import html
from dash.development.base_component import Component

Cleaned = tuple[Any, str]
"""A usable value, and a sentence for the reader where it differs from what was sent ("" where it does not)."""

_SHORT_NUMBER = re.compile(r"[0-9]{1,9}")
_NEVER_SHOWN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


WORD_LIMIT = 40
"""A line for no more characters than this is drawn as wide as a slider; longer ones take the whole width."""


def clean_text(raw: Any, limit: int) -> Cleaned:
    """Any value -> text without control characters and lone surrogates, at most `limit` characters."""
    text = raw if isinstance(raw, str) else ""
    notes = []
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if paired != text:
        notes.append("Half of a surrogate pair is not a character; it was replaced by U+FFFD.")
    visible = _NEVER_SHOWN.sub("", paired)
    if visible != paired:
        gone = len(paired) - len(visible)
        notes.append(f"{gone} control characters were left out." if gone > 1 else "1 control character was left out.")
    if len(visible) > limit:
        notes.append(f"The text had {len(visible):,} characters; the first {limit:,} are used.")
    return visible[:limit], " ".join(notes)


@dataclass(frozen=True)
class Control:
    """What all controls share. `name` is the lab function's keyword, `label` what the reader sees."""

    name: str
    label: str
    default: Any
    help: str = field(default="", kw_only=True)

    def clean(self, raw: Any) -> Cleaned:
        raise NotImplementedError

    def component(self, dom_id: str, value: Any) -> Component:
        """The Dash component that the reader moves, with its label."""
        raise NotImplementedError

    def extremes(self) -> list[Any]:
        """Values at the edges of what the control allows, for tests."""
        raise NotImplementedError

    def to_query(self, value: Any) -> str:
        return str(value)

    def _labelled(self, dom_id: str, kind: str, *parts: Component) -> Component:
        children: list[Component] = [html.Label(self.label, htmlFor=dom_id), *parts]
        if self.help:
            children.append(html.Small(self.help, className="control-help"))
        children.append(html.Div(className="control-note", id=f"{dom_id}-note", role="status"))
        return html.Div(children, className=f"control control-{kind}")


@dataclass(frozen=True)
class Slider(Control):
    """A number between `low` and `high` in steps of `step`; follows the finger while it is dragged."""

    low: float
    high: float
    step: float = 1.0

    def clean(self, raw: Any) -> Cleaned:
        number = _number(raw)
        if number is None:
            if raw is None or raw == "":
                return self.default, ""
            return self.default, f"That is not a number; {self._shown(self.default)} is used instead."
        inside = min(max(number, self.low), self.high)
        snapped = self._snap(inside)
        if inside != number:
            limits = f"{self._shown(self.low)} and {self._shown(self.high)}"
            return snapped, f"{self.label} lies between {limits}; {self._shown(snapped)} is used."
        return snapped, ""

    def _snap(self, number: float) -> float:
        steps = round((number - self.low) / self.step)
        value = min(self.low + steps * self.step, self.high)
        return round(value) if self._whole else round(value, 10)

    @property
    def _whole(self) -> bool:
        return float(self.step).is_integer() and float(self.low).is_integer()

    def _shown(self, value: float) -> str:
        return f"{value:.12g}"

    def to_query(self, value: Any) -> str:
        return self._shown(value)

    def extremes(self) -> list[Any]:
        return [self.low, self.high]

    def component(self, dom_id: str, value: Any) -> Component:
        slider = dbc.Input(
            id=dom_id, type="range", min=self.low, max=self.high, step=self.step, value=value, className="slider"
        )
        shown = html.Output(self._shown(value), className="control-value", htmlFor=dom_id)
        return self._labelled(dom_id, "slider", slider, shown)


@dataclass(frozen=True)
class Toggle(Control):
    """On or off."""

    default: bool

    def clean(self, raw: Any) -> Cleaned:
        if isinstance(raw, bool):
            return raw, ""
        words = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}
        if isinstance(raw, str) and raw.lower() in words:
            return words[raw.lower()], ""
        if isinstance(raw, (int, float)) and raw in (0, 1):
            return bool(raw), ""
        if raw is None or raw == "":
            return self.default, ""
        return self.default, f"{self.label} is on or off; it was left {'on' if self.default else 'off'}."

    def to_query(self, value: Any) -> str:
        return "1" if value else "0"

    def extremes(self) -> list[Any]:
        return [True, False]

    def component(self, dom_id: str, value: Any) -> Component:
        switch = dbc.Switch(id=dom_id, value=value, label=self.label)
        note = html.Div(className="control-note", id=f"{dom_id}-note", role="status")
        return html.Div([switch, note], className="control control-toggle")


@dataclass(frozen=True)
class Choice(Control):
    """One of a few named things. `options` maps the value in the link to the words on the page."""

    options: dict[str, str]

    def clean(self, raw: Any) -> Cleaned:
        if isinstance(raw, str) and raw in self.options:
            return raw, ""
        if raw is None or raw == "":
            return self.default, ""
        return self.default, f"There is no such choice; {self.options[self.default]} is shown."

    def extremes(self) -> list[Any]:
        return list(self.options)

    def component(self, dom_id: str, value: Any) -> Component:
        options = [{"label": label, "value": key} for key, label in self.options.items()]
        return self._labelled(dom_id, "choice", dbc.Select(id=dom_id, options=options, value=value))


@dataclass(frozen=True)
class Text(Control):
    """The reader's own words, cut at `limit` characters."""

    limit: int = 400
    rows: int = 2

    def clean(self, raw: Any) -> Cleaned:
        if raw is None:
            return self.default, ""
        if not isinstance(raw, str):
            return self.default, "That is not text; the text from before is used."
        return clean_text(raw, self.limit)

    def extremes(self) -> list[Any]:
        return ["", "a", "word " * (self.limit // 5)]

    def component(self, dom_id: str, value: Any) -> Component:
        if self.rows == 1:
            box = dbc.Input(id=dom_id, type="text", value=value, autocomplete="off", className="text-line")
        else:
            box = dbc.Textarea(id=dom_id, value=value, rows=self.rows, className="text-box")
        return self._labelled(
            dom_id, "text control-word" if self.rows == 1 and self.limit <= WORD_LIMIT else "text", box
        )


@dataclass(frozen=True)
class Pick(Control):
    """An item that the reader chooses by clicking it in the picture: a token, a cell, a node. Kept as its index.

    The picture's painter draws the items as buttons, so the keyboard reaches them; how many there are is known to the
    lab alone, which uses `within` to bring the index back inside.
    """

    high: int = 4095

    def clean(self, raw: Any) -> Cleaned:
        number = _number(raw)
        if number is None:
            return self.default, "" if raw is None or raw == "" else "There is no such item; the first choice is shown."
        return int(min(max(number, -1), self.high)), ""

    def extremes(self) -> list[Any]:
        return [0, self.high]

    def component(self, dom_id: str, value: Any) -> Component:
        return html.Div(dbc.Input(id=dom_id, type="hidden", value=value), className="control control-pick")


@dataclass(frozen=True)
class Trail(Control):
    """Items that the reader chose one after another by clicking in the picture, as "7042.30.198".

    Whole numbers from 0 to `high`, at most `limit` of them; `Trail.items` makes numbers of the text.
    """

    high: int = 4095
    limit: int = 24

    def clean(self, raw: Any) -> Cleaned:
        if raw is None:
            return self.default, ""
        parts = raw.split(".") if isinstance(raw, str) and raw else []
        good = [str(int(part)) for part in parts if _SHORT_NUMBER.fullmatch(part) and int(part) <= self.high]
        kept = ".".join(good[: self.limit])
        if not isinstance(raw, str) or len(good) < len(parts):
            return kept, "What is not a choice was left out."
        return kept, "" if len(good) <= self.limit else f"The first {self.limit} choices are used."

    @staticmethod
    def items(value: str) -> list[int]:
        """The chosen numbers, in order."""
        return [int(part) for part in value.split(".") if part]

    def extremes(self) -> list[Any]:
        return ["", "0", ".".join([str(self.high)] * self.limit)]

    def component(self, dom_id: str, value: Any) -> Component:
        return html.Div(dbc.Input(id=dom_id, type="hidden", value=value), className="control control-pick")


def within(index: int, count: int) -> int:
    """A picked index brought inside 0..count-1; negative means "the last one"."""
    return count - 1 if index < 0 or index >= count else index


def _number(raw: Any) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        return None
    if math.isnan(value):
        return None
    return min(max(value, -1e300), 1e300)
