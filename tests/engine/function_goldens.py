"""The results of PyTorch and Hugging Face that tests/references/make_function_goldens.py has stored."""

from pathlib import Path

import numpy as np

GOLDENS = dict(np.load(Path(__file__).parents[1] / "goldens" / "functions.npz"))
FLOAT64 = 1e-12  # both sides computed in float64
FLOAT32 = 1e-6  # both in float32, or the reference in float32 only


def given(name: str, dtype: type = np.float64) -> np.ndarray:
    """An input array of the script."""
    return GOLDENS[f"in_{name}"].astype(dtype)


def assert_equals_golden(name: str, ours: np.ndarray, tolerance: float | None = None) -> None:
    """`ours` against the stored array, relative to its largest finite entry, minus infinities in the same places."""
    theirs = GOLDENS[name]
    assert ours.shape == theirs.shape
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(np.isfinite(ours), finite)
    limit = (FLOAT32 if name.endswith("_f32") else FLOAT64) if tolerance is None else tolerance
    if finite.any():
        error = np.max(np.abs(ours[finite] - theirs[finite])) / np.max(np.abs(theirs[finite]))
        assert error <= limit, f"{name} is off by {error:.1e}"
