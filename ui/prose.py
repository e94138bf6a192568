"""A chapter's Markdown -> HTML sections, with labs, formulas, terms and computed numbers in their places.

$\\sqrt{d}$              a formula, typeset as MathML on the server
{{quote_tokens}}        a number that the chapter computes
[logit](term:logit)     a word that opens its one-line definition
[no mask](set:scores?mask=0)    words that set a lab's controls
::: lab scores          places a lab;   ::: code attention   places the source of an engine function
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import parse_qsl

import orjson
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from ui.mathml import mathml

_DIRECTIVE = re.compile(r"^::: *(\w+) *(.*)$", re.M)
_NUMBER = re.compile(r"\{\{ *(\w+) *\}\}")


@dataclass(frozen=True)
class Section:
    """A stretch of prose (kind "prose", content is HTML) or the name of what stands there (kind "lab", "code")."""

    kind: str
    content: str


def sections(source: str, numbers: Mapping[str, Any], chapter: str) -> list[Section]:
    """Markdown with directives -> the chapter's sections in order. An unknown number is an error, not a gap."""
    filled = _NUMBER.sub(lambda match: _written(numbers[match[1]]), source)
    parts = _DIRECTIVE.split(filled)
    found = [Section("prose", _html(parts[0], chapter))] if parts[0].strip() else []
    for kind, argument, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        found.append(Section(kind, argument.strip()))
        if text.strip():
            found.append(Section("prose", _html(text, chapter)))
    return found


def code_html(source: str) -> str:
    """Python -> highlighted HTML; the colours come from the theme's style sheet. The keyboard can scroll it."""
    markup = highlight(source, PythonLexer(), HtmlFormatter(cssclass="code", wrapcode=True))
    return str(markup).replace("<pre>", '<pre tabindex="0">', 1)


def function_html(function: Callable[..., Any]) -> str:
    """The source of an engine function as it stands in the file, with its full name above."""
    plain = inspect.unwrap(function)
    name = f"{plain.__module__}.{plain.__qualname__}"
    return (
        f'<figure class="source"><figcaption>{escape(name)}</figcaption>{code_html(inspect.getsource(plain))}</figure>'
    )


def inline(text: str, chapter: str = "") -> str:
    """One line of Markdown -> HTML without a paragraph around it."""
    return str(_parser.renderInline(text, {"chapter": chapter}))


def _html(text: str, chapter: str) -> str:
    return str(_parser.render(text, {"chapter": chapter}))


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _link_open(self: RendererHTML, tokens: Any, index: int, options: Any, env: Any) -> str:
    target = str(tokens[index].attrs["href"])
    scheme, _, rest = target.partition(":")
    if scheme == "term":
        env["close"] = "</button>"
        return f'<button type="button" class="term" data-term="{escape(rest)}" aria-expanded="false">'
    if scheme == "set":
        lab, _, query = rest.partition("?")
        env["close"] = "</button>"
        values = escape(orjson.dumps(dict(parse_qsl(query))).decode())
        return f'<button type="button" class="set" data-set="{env["chapter"]}-{lab}" data-values="{values}">'
    env["close"] = "</a>"
    outside = ' rel="noopener"' if target.startswith("http") else ""
    return f'<a href="{escape(target)}"{outside}>'


def _link_close(self: RendererHTML, tokens: Any, index: int, options: Any, env: Any) -> str:
    return str(env.pop("close", "</a>"))


def _make_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"typographer": True, "html": True}).enable(["table", "replacements"])
    parser.use(dollarmath_plugin, renderer=lambda latex, config: mathml(latex, block=config["display_mode"]))
    parser.add_render_rule("link_open", _link_open)
    parser.add_render_rule("link_close", _link_close)
    return parser


_parser = _make_parser()
