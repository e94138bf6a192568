"""What Celery's workers import: celery --app ui.jobs.worker worker. REDIS_URL says where Redis is."""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.nice(19)  # the web server may run on the same machine

from pathlib import Path  # noqa: E402

from ui.jobs.load import load_labs  # noqa: E402
from ui.jobs.managers import ROOT, CeleryJobs, open_manager  # noqa: E402

PAGES = Path(os.environ.get("GLASS_BOX_PAGES", ROOT / "pages"))

if not os.environ.get("REDIS_URL"):
    raise SystemExit("REDIS_URL has to say where Redis is, as in REDIS_URL=redis://127.0.0.1:6379/0")

_manager = open_manager(PAGES)
assert isinstance(_manager, CeleryJobs)
load_labs(PAGES)
app = _manager.handle
