"""The first response's HTML has the structure that Dash will build, and the browser's parser agrees with ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import dash_bootstrap_components as dbc
import pytest
from dash import dcc, html
from dash.development.base_component import Component

from ui.chapter import BOOK
from ui.shell import page_layout
from ui.static import raw, to_html

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
NATIVE = {"Input": "input", "Textarea": "textarea", "Select": "select", "Switch": "input"}


class Outline(HTMLParser):
    """Tags in order with their attributes; fails where a tag is not closed, or not open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(markup: str) -> Outline:
    parsed = Outline()
    parsed.feed(markup)
    parsed.close()
    assert not parsed.open, f"never closed: {parsed.open}"
    return parsed


def components(node: Any) -> Iterator[Component]:
    """Every component of a layout, in document order."""
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from components(child)
    elif isinstance(node, Component):
        yield node
        yield from components(getattr(node, "children", None))


def test_text_and_attributes_are_escaped() -> None:
    markup = to_html(html.P(['<b> & "', 1.5, None, [html.Em("x")]], title='a"<b>', id="i", hidden=True))
    parsed = outline(markup)
    assert parsed.tags == [("p", {"id": "i", "hidden": None, "title": 'a"<b>'}), ("em", {})]
    assert parsed.text == ['<b> & "1.5', "x"]


def test_attributes_are_those_of_html() -> None:
    markup = to_html(html.Label("x", htmlFor="i", className="c", tabIndex=-1, **{"data-a": "1", "aria-hidden": "true"}))
    [(tag, attributes)] = outline(markup).tags
    assert tag == "label"
    assert attributes == {"for": "i", "class": "c", "tabindex": "-1", "data-a": "1", "aria-hidden": "true"}
    assert "hidden" not in to_html(html.Div(hidden=False))
    assert to_html(dcc.Store(id="s")) == ""


def test_ready_html_goes_in_as_it_is_and_never_through_dash() -> None:
    slot = raw("<b>x</b>", "key", className="prose")
    [(_, attributes), _] = outline(to_html(slot)).tags
    assert attributes == {"data-move": "key", "class": "prose"}
    assert "<b>" not in str(slot.to_plotly_json())


OPTIONS = [{"label": "<A>", "value": "a"}, {"label": "B", "value": "b"}]


@pytest.mark.parametrize(
    ("node", "tag", "wanted"),
    [
        (dbc.Input(id="a", type="range", min=0, max=1, step=0.1, value=0), "input", {"value": "0", "min": "0"}),
        (dbc.Input(id="a", type="text", value='"<'), "input", {"value": '"<'}),
        (dbc.Input(id="a", type="hidden", value=3), "input", {"value": "3", "type": "hidden"}),
        (dbc.Textarea(id="a", value="</textarea><b>", rows=2, className="s"), "textarea", {"rows": "2"}),
        (dbc.Select(id="a", options=OPTIONS, value="a"), "select", {"id": "a"}),
        (dbc.Switch(id="a", value=True, label="L"), "input", {"type": "checkbox", "checked": None}),
    ],
)
def test_controls_keep_their_value(node: Component, tag: str, wanted: dict[str, str | None]) -> None:
    parsed = outline(to_html(node))
    [attributes] = [found for name, found in parsed.tags if name == tag]
    assert wanted.items() <= attributes.items()
    assert all(name != "b" for name, _ in parsed.tags)


@pytest.mark.parametrize("path", [entry.path for entry in BOOK.entries])
def test_the_first_response_has_the_structure_of_dashs_layout(application: Any, path: str) -> None:
    layout = page_layout(BOOK.at(path), {})
    parsed = outline(to_html(layout))
    ids = Counter(attributes["id"] for _, attributes in parsed.tags if "id" in attributes)
    slots = [attributes["data-move"] for _, attributes in parsed.tags if "data-move" in attributes]
    declared = [node for node in components(layout) if not isinstance(node, dcc.Store)]
    for node in declared:
        name = getattr(node, "id", None)
        if name is not None:
            assert ids[name] == 1, name
            [tag] = [tag for tag, attributes in parsed.tags if attributes.get("id") == name]
            assert tag == NATIVE.get(node._type, node._type.lower())
    keys = [node.to_plotly_json()["props"]["data-move"] for node in declared if hasattr(node, "_markup")]
    assert slots == keys
    assert len(set(keys)) == len(keys)
    assert max(ids.values(), default=1) == 1
    # An empty element would leave the reader without its content when the app takes over.
    assert all(node._markup.strip() for node in declared if hasattr(node, "_markup"))
