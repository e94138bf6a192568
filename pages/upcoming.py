"""The chapters that are in the table of contents and not yet written: an honest page for each."""

from functools import partial
from html import escape

from dash import html, register_page

from ui.chapter import BOOK, Entry, turn_html
from ui.static import raw


def layout(entry: Entry, /, **query: str) -> html.Article:
    """Says what the chapter will be about, and that it is not there yet."""
    words = (
        f'<header class="chapter-head"><p class="chapter-number">Chapter {entry.number}</p>'
        f'<h1 tabindex="-1">{escape(entry.title)}</h1><p class="idea">{escape(entry.idea)}</p></header>'
        '<div class="prose"><p>This chapter is not written yet. The list on the left shows which ones are.</p></div>'
    )
    words += turn_html(entry)
    return html.Article([raw(words, "header")], id="page", className="chapter")


for _entry in BOOK.entries:
    if not _entry.written:
        register_page(
            f"pages.upcoming.{_entry.slug}", path=_entry.path, title=_entry.title, layout=partial(layout, _entry)
        )
