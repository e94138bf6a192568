"""backpropagation."""

from pathlib import Path
from dash import register_page
from ui.chapter import Chapter

chapter = Chapter(__name__, Path(__file__).parent)
register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
