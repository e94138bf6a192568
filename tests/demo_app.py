"""An app with the pages of tests/demo_pages, for tests and benchmarks of long labs."""

from pathlib import Path

from ui.server import create_app

PAGES = Path(__file__).resolve().parent / "demo_pages"
app = create_app(PAGES)
server = app.server
