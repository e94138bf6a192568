"""An app with the pages of tests/demo_pages, for tests and benchmarks of long labs. DEMO_PATIENCE shortens its wait."""

import os
from pathlib import Path

from ui.jobs import line
from ui.server import create_app

line.NOBODY = float(os.environ.get("DEMO_NOBODY", line.NOBODY))
line.PATIENCE = float(os.environ.get("DEMO_PATIENCE", line.PATIENCE))

PAGES = Path(__file__).resolve().parent / "demo_pages"
app = create_app(PAGES)
server = app.server
