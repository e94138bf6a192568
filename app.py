"""Glass Box: create the app; nothing else. `make run` serves it, and so does any WSGI server: `app:server`."""

import os

# Under load, the BLAS threads of several workers fight; one each, set before NumPy is imported.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from pathlib import Path  # noqa: E402

from ui.server import create_app  # noqa: E402

app = create_app(Path(__file__).parent / "pages")
server = app.server

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "8050")))
