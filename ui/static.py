"""A Dash component tree as plain HTML, for the first response: readable before, and without, JavaScript.

Only what the pages use is known here: every `html.*` component, the few native controls of dash-bootstrap-components,
and `Raw`, a piece of ready HTML that Dash shows as an empty element until the first response's nodes are moved into it.
"""

from __future__ import annotations

from html import escape
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

_ATTRIBUTE = {"className": "class", "htmlFor": "for", "tabIndex": "tabindex", "autocomplete": "autocomplete"}
_SKIPPED = {"children", "n_clicks", "disable_n_clicks", "style", "loading_state"}


def raw(markup: str, key: str, **attributes: Any) -> Component:
    """An element whose content is `markup`: sent once, inside the first response, never through Dash."""
    place: dict[str, Any] = {"data-move": key, **attributes}
    slot: Any = html.Div(**place)
    slot._markup = markup
    return slot


def to_html(node: Any) -> str:
    """Component, string, number, list or None -> HTML."""
    if node is None:
        return ""
    if isinstance(node, (str, int, float)):
        return escape(str(node), quote=False)
    if isinstance(node, (list, tuple)):
        return "".join(to_html(child) for child in node)
    if isinstance(node, (dcc.Store,)):
        return ""
    if node._namespace == "dash_bootstrap_components":
        return _NATIVE[node._type](node)
    return _element(node._type.lower(), node)


def _element(tag: str, node: Component) -> str:
    attributes = []
    for name, value in node.to_plotly_json()["props"].items():
        if name in _SKIPPED or value is None or value is False:
            continue
        attributes.append(_attribute(_ATTRIBUTE.get(name, name.lower() if "-" not in name else name), value))
    inside = getattr(node, "_markup", None)
    if inside is None:
        inside = to_html(getattr(node, "children", None))
    return f"<{tag}{''.join(attributes)}>{inside}</{tag}>"


def _attribute(name: str, value: Any) -> str:
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def _input(node: Any) -> str:
    props = node.to_plotly_json()["props"]
    kind = props.get("type", "text")
    names = ("id", "type", "min", "max", "step", "value", "autocomplete", "placeholder")
    attributes = "".join(_attribute(name, props[name]) for name in names if props.get(name) is not None)
    return f'<input{attributes} class="{props.get("className", "")} form-control" data-kind="{kind}">'


def _textarea(node: Any) -> str:
    return (
        f'<textarea id="{node.id}" rows="{node.rows}" class="{node.className} form-control">'
        f"{escape(node.value or '', quote=False)}</textarea>"
    )


def _select(node: Any) -> str:
    options = "".join(
        f"<option{_attribute('value', option['value'])}{' selected' if option['value'] == node.value else ''}>"
        f"{escape(option['label'], quote=False)}</option>"
        for option in node.options
    )
    return f'<select id="{node.id}" class="form-select">{options}</select>'


def _switch(node: Any) -> str:
    checked = " checked" if node.value else ""
    return (
        f'<div class="form-check form-switch"><input type="checkbox" class="form-check-input" id="{node.id}"{checked}>'
        f'<label for="{node.id}" class="form-check-label form-label">{escape(str(node.label), quote=False)}</label>'
        "</div>"
    )


_NATIVE = {"Input": _input, "Textarea": _textarea, "Select": _select, "Switch": _switch}
