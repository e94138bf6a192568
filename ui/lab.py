"""A lab: a plain function from control values to (picture, sentence), and everything that a page needs around it.

The decorator `Chapter.lab` registers a `Lab` and gives the function back unchanged. From the declaration come the ids,
the layout, the callback, the cleaning of input, the link, the code drawer, the download and the error sentence.
"""

from __future__ import annotations

import csv
import inspect
import io
import logging
import re
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple
from urllib.parse import urlencode

import numpy as np
import orjson
from cachetools import LRUCache, cached
from dash import Input, Output, callback, dcc, html
from dash.development.base_component import Component

from ui.controls import Control, Text
from ui.figures import Picture
from ui.jobs import managers, results, runs
from ui.jobs.line import ABANDONED, Line
from ui.jobs.work import Long, Progress, Watch, follow, to_the_end
from ui.mathml import mathml
from ui.static import raw

log = logging.getLogger("glassbox")

LABS: dict[str, Lab] = {}
"""Every lab of every chapter, by id. The tests walk through it."""

_QUANTITY = re.compile(r"\{\{[^|{}]+\|([^{}]*)\}\}")
"""A named quantity in a sentence, {{name|what is read}}; see assets/js/00-core.js."""

SENTENCE_LIMIT = 400
DEFAULT_SENTENCE = "The animal did not cross the street because it was too"
SENTENCE = Text("sentence", "Your sentence", DEFAULT_SENTENCE, limit=SENTENCE_LIMIT)
"""The control that every real-model lab shares: it stands in the bar at the top, and in the link as `s`."""


class Shown(NamedTuple):
    """What a lab function returns. A plain tuple of the first two or more does as well."""

    picture: Picture
    sentence: str
    formula: str = ""
    """LaTeX, with the current numbers written into it."""
    data: Mapping[str, Any] = {}
    """The arrays behind the picture, unrounded, by the names that the snippet uses."""
    most: Mapping[str, float] = {}
    """Sliders that end earlier than declared because of what the reader gave: control -> its last useful value."""


@dataclass(frozen=True)
class Preset:
    """Ready-made settings, offered as a button: words, the values they set, and why they are worth a look."""

    label: str
    values: Mapping[str, Any]
    why: str = ""


@dataclass(frozen=True)
class Lab:
    """One lab. `chapter` and `name` make its id; `runs` are the engine functions that the code drawer shows."""

    chapter: str
    name: str
    function: Callable[..., Any]
    title: str
    controls: tuple[Control, ...]
    runs: tuple[Callable[..., Any], ...]
    snippet: str
    provenance: str
    presets: tuple[Preset, ...] = ()
    real: bool = False
    """Runs SmolLM2 on the reader's sentence: computed when it comes into view."""
    height: int | tuple[int, int] = 200
    """Pixels kept free for picture and sentence: on a wide page, and on a phone where that is more."""
    cached: bool = True
    """False for what measures time: each look computes again."""
    long: Long | None = None
    """A job: the function is a generator, which the reader starts, watches and stops."""
    follows: str = ""
    """Looks at the reader's latest run in that long lab of the chapter: the function also takes `run`, None if there
    is none."""
    by_name: dict[str, Control] = field(init=False, default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        self.by_name.update({control.name: control for control in self.all_controls})

    @property
    def id(self) -> str:
        return f"{self.chapter}-{self.name}"

    @property
    def room(self) -> tuple[int, int]:
        """Pixels kept free on a wide page, and on a phone."""
        return self.height if isinstance(self.height, tuple) else (self.height, self.height)

    @property
    def keeps(self) -> bool:
        return self.long is not None and self.long.keeps

    @property
    def all_controls(self) -> tuple[Control, ...]:
        return (*self.controls, SENTENCE) if self.real else self.controls

    def dom_id(self, control: str) -> str:
        return f"{self.id}-{control}"

    def key(self, control: str) -> str:
        """The control's name in a link."""
        return "s" if control == SENTENCE.name else f"{self.name}.{control}"

    def defaults(self) -> dict[str, Any]:
        return {control.name: control.default for control in self.all_controls}

    def clean(self, raw_values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Whatever was sent -> (usable values, notes for the reader by control name)."""
        values, notes = {}, {}
        for control in self.all_controls:
            values[control.name], note = control.clean(raw_values.get(control.name))
            if note:
                notes[control.name] = note
        return values, notes

    def from_query(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """What a link says for each control, None where it says nothing; of a repeated name, the first."""
        sent = {control.name: query.get(self.key(control.name)) for control in self.all_controls}
        return {name: value[0] if isinstance(value, list) and value else value for name, value in sent.items()}

    def query(self, values: Mapping[str, Any]) -> str:
        """The query string that brings back `values`: only what differs from the defaults."""
        changed = {
            self.key(c.name): c.to_query(values[c.name]) for c in self.all_controls if values[c.name] != c.default
        }
        return urlencode(changed)


def compute(lab: Lab, raw_values: Mapping[str, Any], *, wait: bool = False, reader: str = "") -> dict[str, Any]:
    """Run the lab on whatever was sent -> what the page shows, as plain JSON values. Never raises.

    Of a long lab: what a finished job has left for these values, or no picture; `wait` runs it here and now. Where runs
    are kept for their own reader, `reader` says whose.
    """
    values, notes = lab.clean(raw_values)
    if lab.long and not wait:
        left = _left_by_job(lab, values, reader)
        return {**_shown_of_job(lab, left), "values": values, "notes": notes}
    run = _followed(lab, reader)
    try:
        shown = _run(lab, values, run) if run is not None or not lab.cached else _cached_run(lab, values)
    except ReaderError as problem:
        shown = {"error": str(problem)}
    except Exception as problem:
        shown = {"error": _for_readers(lab, problem)}
    return {**shown, "values": values, "notes": notes}


def _followed(lab: Lab, reader: str) -> runs.Run | None:
    """The reader's latest run in the long lab that this one looks at."""
    return runs.latest(reader, f"{lab.chapter}-{lab.follows}") if lab.follows else None


def _left_by_job(lab: Lab, values: Mapping[str, Any], reader: str) -> dict[str, Any]:
    """What a job with these values has left: finished, or (where runs are kept) what it has noted on its way."""
    key = result_key(lab, values)
    return runs.noted(reader, lab.id, key) if lab.keeps else results.kept(key) or {}


def _shown_of_job(lab: Lab, left: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of it, and whether that is how far a kept run came."""
    shown = dict(left.get("shown") or {})
    return {**shown, "partly": True} if shown and lab.keeps and not left.get("finished") else shown


def _run(lab: Lab, values: Mapping[str, Any], run: runs.Run | None = None) -> dict[str, Any]:
    started = time.perf_counter()
    return _for_page(_shown(lab, values, run), started)


def _shown(lab: Lab, values: Mapping[str, Any], run: runs.Run | None = None) -> Shown:
    found = call(lab, values, run)
    return Shown(*(to_the_end(found) if lab.long else found))


def call(lab: Lab, values: Mapping[str, Any], run: runs.Run | None = None) -> Any:
    """The lab's function on these values, and on a run where it takes one."""
    if lab.keeps:
        return lab.function(**values, run=run or runs.nowhere())
    return lab.function(**values, run=run) if lab.follows else lab.function(**values)


def _for_page(shown: Shown, started: float) -> dict[str, Any]:
    """What the page shows of a result, and how long it took since `started`."""
    return {
        "picture": shown.picture,
        "sentence": shown.sentence,
        "formula": mathml(shown.formula, block=True) if shown.formula else "",
        "most": dict(shown.most),
        "ms": round((time.perf_counter() - started) * 1000, 2),
    }


# Two readers who ask the same at once: the second waits for the first one's result.
_cached_run = cached(
    LRUCache(maxsize=2048), key=lambda lab, values: (lab.id, *values.values()), condition=threading.Condition()
)(_run)


def _for_readers(lab: Lab, problem: Exception) -> str:
    """Engine errors are sentences written for readers and pass; anything else is logged and gets a sentence of ours."""
    if isinstance(problem, ReaderError) or (isinstance(problem, ValueError) and is_sentence(str(problem))):
        return str(problem)
    log.error("lab %s: %s", lab.id, what_failed(problem))
    return "This lab could not compute that. Change a control, or reset it."


def what_failed(problem: BaseException) -> str:
    """Type and place of an exception, for the log. Its message stays out: it may quote the reader."""
    frames = traceback.extract_tb(problem.__traceback__)
    return f"{type(problem).__name__} at {f'{frames[-1].filename}:{frames[-1].lineno}' if frames else '?'}"


class ReaderError(Exception):
    """A plain sentence for the reader instead of a picture."""


def is_sentence(text: str) -> bool:
    """Engine errors are written for readers; NumPy's own are not, and do not look like a sentence."""
    return text.endswith((".", "?")) and " " in text and "\n" not in text


def data_of(lab: Lab, raw_values: Mapping[str, Any], *, wait: bool = False, reader: str = "") -> dict[str, Any]:
    """The unrounded arrays behind the picture. Raises what the lab raises; of a long lab, what its job has left."""
    values, _ = lab.clean(raw_values)
    if not lab.long or wait:
        return dict(_shown(lab, values, _followed(lab, reader)).data)
    kept = _left_by_job(lab, values, reader)
    if "data" not in kept:
        raise ReaderError("Run the lab with these settings first; its numbers are then kept for an hour.")
    if kept["data"] is None:
        raise ReaderError("These numbers are too many to keep. The code drawer says how to compute them.")
    return dict(kept["data"])


def as_json(lab: Lab, values: Mapping[str, Any], data: Mapping[str, Any]) -> bytes:
    plain = {name: np.asarray(v).tolist() if isinstance(v, np.ndarray) else v for name, v in data.items()}
    return orjson.dumps(
        {"lab": lab.id, "values": values, "data": plain}, option=orjson.OPT_SERIALIZE_NUMPY, default=str
    )


def as_csv(data: Mapping[str, Any]) -> str:
    """One block a name: a line with the name, then its rows."""
    out = io.StringIO()
    write = csv.writer(out)
    for name, value in data.items():
        write.writerow([name])
        rows = np.atleast_2d(np.asarray(value))
        write.writerows(rows.reshape(rows.shape[0], -1).tolist())
        write.writerow([])
    return out.getvalue()


def sources(lab: Lab) -> list[tuple[str, str]]:
    """(qualified name, source) of each engine function that the lab runs, as it stands in the file."""
    shown = []
    for function in lab.runs:
        plain = inspect.unwrap(function)
        shown.append((f"{plain.__module__}.{plain.__qualname__}", textwrap.dedent(inspect.getsource(plain))))
    return shown


def snippet(lab: Lab, values: Mapping[str, Any]) -> str:
    """Python that reproduces the shown numbers in a shell started in the project's folder."""
    return textwrap.dedent(lab.snippet).strip().format(**values)


# --- long labs ------------------------------------------------------------------------------------------------------


def result_key(lab: Lab, values: Mapping[str, Any]) -> str:
    return results.key_of(lab.id, (lab.function, *lab.runs), values)


def run_job(lab: Lab, asked: Mapping[str, Any], tell: Callable[[Any], Any]) -> dict[str, Any]:
    """In the job's process: run a long lab on whatever was sent, telling its progress -> its answer. Never raises."""
    manager, job = managers.CURRENT, asked["job"]
    assert manager is not None
    values, notes = lab.clean(asked["values"])
    key = result_key(lab, values)
    try:
        run = runs.begun(asked["reader"], lab.id, key) if lab.keeps else None
        kept = run.noted() if run is not None else results.kept(key) or {}
        finished = kept.get("shown") and kept.get("finished", run is None)
        shown = kept["shown"] if finished else _follow(lab, values, manager.line, job, key, run, tell, manager.answer)
    except Exception as problem:
        shown = {"error": _for_readers(lab, problem)}
    return {**shown, "values": values, "notes": notes}


def _follow(
    lab: Lab,
    values: dict[str, Any],
    line: Line,
    job: str,
    key: str,
    run: runs.Run | None,
    tell: Callable[[Any], Any],
    answer: Callable[[str, Any], None],
) -> dict[str, Any]:
    assert lab.long is not None
    started = time.perf_counter()
    if not line.start(job):
        return {"error": ABANDONED}

    if run is not None:
        run.note(values=values)
    last = None

    def told(progress: Progress) -> None:
        nonlocal last
        partly = _for_page(Shown(*progress.shown), started) if progress.shown else None
        if run is not None and progress.shown and progress.shown is not last:
            last = progress.shown
            run.note(shown=results.plain(partly))
        tell([results.plain({"share": progress.share, "words": progress.words, "shown": partly})])

    watch = Watch(line, job, lab.long.seconds, lambda why: answer(job, {"error": why}))
    watch.start()
    try:
        result, ended = follow(call(lab, values, run), watch, told)
    finally:
        watch.finished.set()
    if ended:
        return {"error": ended}
    shown = results.plain(_for_page(Shown(*result), started))
    if run is not None:
        run.note(shown=shown, data=results.plain(Shown(*result).data), finished=True)
    else:
        results.keep(key, shown, Shown(*result).data)
    return shown


def register_job(lab: Lab) -> None:
    """Make the callbacks of a long lab's job; assets/js/35-jobs.js calls them as Dash's renderer would."""

    @callback(
        Output(f"{lab.id}-job", "data"),
        Input(f"{lab.id}-run", "data"),
        background=True,
        interval=500,
        progress=[Output(f"{lab.id}-progress", "data")],
        cancel=[Input(f"{lab.id}-stop", "data")],
        prevent_initial_call=True,
    )
    def job(tell: Callable[[Any], Any], asked: dict[str, Any]) -> dict[str, Any]:
        return run_job(lab, asked, tell)


# --- the lab on the page -------------------------------------------------------------------------------------------


def register(lab: Lab) -> None:
    """Make the lab's callback: the reader's values in one Store, the answer in another (see assets/js/30-lab.js)."""
    if lab.id in LABS:
        raise RuntimeError(f"two labs are called {lab.id}")
    LABS[lab.id] = lab

    @callback(
        Output(f"{lab.id}-answer", "data"),
        Input(f"{lab.id}-asked", "data"),
        prevent_initial_call=True,
    )
    def answer(asked: Any) -> dict[str, Any]:
        sent = asked if isinstance(asked, dict) else {}
        values, reader = sent.get("values"), sent.get("reader")
        return compute(
            lab, values if isinstance(values, dict) else {}, reader=reader if isinstance(reader, str) else ""
        )

    if lab.long:
        register_job(lab)


def first_answer(lab: Lab, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows at first for a link's query; real-model labs and measurements wait until they are seen."""
    if lab.real or not lab.cached:
        values, notes = lab.clean(lab.from_query(query))
        return {"values": values, "notes": notes}
    return compute(lab, lab.from_query(query))


def component(lab: Lab, answer: Mapping[str, Any]) -> Component:
    """The lab as Dash components; what Dash need not know about is ready HTML, moved in from the first response."""
    values = answer["values"]
    controls = [control.component(lab.dom_id(control.name), values[control.name]) for control in lab.controls]
    labelled: dict[str, Any] = {"data-lab": lab.id, "aria-labelledby": f"{lab.id}-title"}
    return html.Section(
        [
            raw(_head(lab), f"{lab.id}-head"),
            html.Div(controls, className="controls", hidden=not controls),
            raw(_stage(lab, answer), f"{lab.id}-stage"),
            dcc.Store(id=f"{lab.id}-asked"),
            dcc.Store(id=f"{lab.id}-answer"),
        ],
        id=lab.id,
        className="lab real" if lab.real else "lab",
        **labelled,
    )


def declaration(lab: Lab) -> dict[str, Any]:
    """What the browser's side of the lab needs to know."""
    return {
        "controls": {control.name: lab.key(control.name) for control in lab.all_controls},
        "defaults": lab.defaults(),
        "real": lab.real,
        "long": {"takes": lab.long.takes or f"at most {lab.long.seconds:.0f} seconds", "keeps": lab.keeps}
        if lab.long
        else None,
        "follows": f"{lab.chapter}-{lab.follows}" if lab.follows else "",
    }


def _head(lab: Lab) -> str:
    words = escape_all(lab.title, lab.provenance)
    kind = '<span class="real-mark">In the real model</span>' if lab.real else ""
    presets = "".join(_preset(lab, preset) for preset in lab.presets)
    row = f'<div class="presets" role="group" aria-label="Examples">{presets}</div>' if presets else ""
    row += '<p class="preset-why" role="status"></p>' if presets else ""
    return (
        f'<header class="lab-head">{kind}<h3 id="{lab.id}-title">{words[0]}</h3>'
        f'<p class="provenance">{words[1]}</p></header>{row}'
    )


def _preset(lab: Lab, preset: Preset) -> str:
    label, why = escape_all(preset.label, preset.why)
    values = escape_all(orjson.dumps(dict(preset.values)).decode())[0]
    title = f' title="{why}"' if why else ""
    return f'<button type="button" class="preset" data-set="{lab.id}" data-values="{values}"{title}>{label}</button>'


def _stage(lab: Lab, answer: Mapping[str, Any]) -> str:
    """Where the picture is painted; sentence and formula stand there already, for readers without JavaScript."""
    sentence = escape(_QUANTITY.sub(r"\1", answer.get("sentence", "")))
    message = escape(answer.get("error", ""))
    tools = (
        '<button type="button" data-tool="reset">Reset</button>'
        '<button type="button" data-tool="link">Copy link</button>'
        '<button type="button" data-tool="code" aria-expanded="false">Code</button>'
        '<button type="button" data-tool="csv">CSV</button><button type="button" data-tool="json">JSON</button>'
        '<button type="button" data-tool="picture">Picture</button>'
    )
    wide, phone = lab.room
    return (
        f'{_JOB if lab.long else ""}<div class="lab-message" role="status">{message}</div>'
        f'<figure class="lab-figure" style="--wide:{wide}px;--phone:{phone}px">'
        '<div class="picture"></div>'
        f'<figcaption class="lab-sentence" aria-live="polite">{sentence}</figcaption></figure>'
        f'<div class="lab-formula">{answer.get("formula", "")}</div>'
        f'<div class="lab-tools" role="group" aria-label="Tools of this lab">{tools}'
        '<span class="lab-time"></span></div>'
        f'<div class="lab-code" hidden></div>'
    )


_JOB = (
    '<div class="lab-job"><button type="button" data-job="run">Run</button>'
    '<button type="button" data-job="stop" hidden>Stop</button>'
    '<progress max="1" aria-label="Progress" hidden></progress><span class="job-words" role="status"></span></div>'
)
"""Of a long lab: how it is started and stopped, and how far it is."""


def escape_all(*texts: str) -> list[str]:
    return [escape(text) for text in texts]


def own_names(controls: Sequence[Control]) -> tuple[Control, ...]:
    """The controls of a lab as a tuple; each needs a name of its own, and `sentence` is the bar's."""
    names = [control.name for control in controls]
    if len(set(names)) != len(names) or SENTENCE.name in names:
        raise RuntimeError(f"controls need names of their own: {names}")
    return tuple(controls)
