"""Every test runs with the engine's declared shapes checked, and on one BLAS thread as the server does."""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from jaxtyping import install_import_hook

install_import_hook("engine", "beartype.beartype")
