"""What stands around every page: the first HTML response, navigation, the sentence bar, and the 404 page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import dash

from ui.chapter import BOOK, Entry, as_script_json
from ui.lab import DEFAULT_SENTENCE, SENTENCE
from ui.static import to_html

SITE = "Glass Box"
TAGLINE = "How a large language model works, explained by running one."
PRIVACY = (
    "What you type goes to the server that computes it and nowhere else. It is not logged, and kept only for a while, "
    "at most an hour for a long job, so that a second look is quick. No cookies, no accounts, no analytics."
)


def page_html(path: str, query: Mapping[str, Any], files: Mapping[str, str], parts: Mapping[str, str]) -> str:
    """The whole document: shell, prose, controls and first pictures; Dash's own parts follow at the end."""
    entry = BOOK.at(path)
    chapter = BOOK.chapters.get(entry.slug) if entry else None
    sentence, _ = SENTENCE.clean(query.get("s"))
    title = SITE if entry and entry.path == "/" else f"{entry.title if entry else 'Page not found'} · {SITE}"
    main = to_html(page_layout(entry, query)) if entry else missing_html()
    first = chapter.first_answers(query) if chapter else {}
    description = entry.idea if entry else TAGLINE
    boot = {
        "labs": first,
        "terms": {name: text for name, text in BOOK.terms.items() if f'data-term="{escape(name)}"' in main},
        "sentence": sentence,
        "defaultSentence": DEFAULT_SENTENCE,
        "chapter": entry.slug if entry else "",
        "plotly": files["plotly"],
    }
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<meta name="description" content="{escape(description)}">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="{files["icon"]}" type="image/svg+xml">
{preload_html(main)}
<link rel="stylesheet" href="{files["css"]}">
<script src="{files["theme"]}"></script>
</head>
<body>
<a class="skip" href="#content">Skip to the text</a>
{header_html(sentence, entry)}
<div class="frame">
{contents_html(entry)}
<main id="content">
<div id="first">{main}</div>
<div id="live" aria-hidden="true">{parts["app_entry"]}</div>
</main>
</div>
<footer class="site-foot"><p>{PRIVACY}</p></footer>
<div id="banner" role="alert" hidden></div>
<div id="term" class="term-box" role="status" hidden></div>
<script type="application/json" id="boot">{as_script_json(boot)}</script>
<script src="{files["js"]}"></script>
{parts["config"]}
{parts["scripts"]}
{parts["renderer"]}
</body>
</html>"""


def preload_html(main: str) -> str:
    """Fonts that the page surely uses, fetched beside the style sheet: text that changed its font would shift."""
    used = {"serif": True, "sans": True, "mono": 'class="lab' in main, "serif-italic": "<em>" in main}
    return "\n".join(
        f'<link rel="preload" as="font" type="font/woff2" crossorigin href="/assets/fonts/{name}.woff2">'
        for name, needed in used.items()
        if needed
    )


def page_layout(entry: Entry, query: Mapping[str, Any]) -> Any:
    """The same components that Dash will show, from the page's own registration."""
    layout = next(page["layout"] for page in dash.page_registry.values() if page["path"] == entry.path)
    return layout(**query)


def header_html(sentence: str, entry: Entry | None) -> str:
    return f"""<header class="site-head">
<a class="brand" href="/">{SITE}</a>
<form class="sentence-bar" role="search" aria-label="Your sentence">
<label for="sentence">Your sentence</label>
<input id="sentence" type="text" value="{escape(sentence)}" maxlength="4000" autocomplete="off" spellcheck="false"
 aria-describedby="sentence-note">
<span id="sentence-note" class="control-note" role="status"></span>
</form>
<button type="button" class="theme" data-theme-switch aria-label="Light or dark">◐</button>
<details class="menu"><summary>Chapters</summary><nav aria-label="Chapters, short list">{_list(entry)}</nav></details>
</header>"""


def contents_html(here: Entry | None) -> str:
    return f'<nav class="contents" aria-label="Chapters">{_list(here)}</nav>'


def _list(here: Entry | None) -> str:
    lines, part = [], ""
    for entry in BOOK.entries:
        if entry.part != part:
            part = entry.part
            lines.append(f'<li class="part">{escape(part)}</li>')
        lines.append(_line(entry, entry is here))
    return f"<ol>{''.join(lines)}</ol>"


def _line(entry: Entry, here: bool) -> str:
    current = ' aria-current="page"' if here else ""
    state = "" if entry.written else ' <small class="unwritten">not yet written</small>'
    number = f"<b>{entry.number}</b> " if entry.number else "<b></b> "
    return (
        f'<li data-slug="{entry.slug}"><a href="{entry.path}"{current}>{number}'
        f"<span>{escape(entry.title)}{state}</span></a></li>"
    )


def missing_html() -> str:
    return (
        '<article id="page" class="chapter"><header class="chapter-head"><p class="chapter-number">404</p>'
        '<h1 tabindex="-1">There is no such page</h1><p class="idea">The address may be mistyped or old. '
        'Every chapter is in the list; the <a href="/">introduction</a> is a good place to start.</p>'
        "</header></article>"
    )
