"""Surfaces to walk down, and the walk: a loss of two numbers is a landscape, and an optimizer leaves a path in it.

Each surface is written twice: its height, and its slope by hand, which a test holds against backpropagation. Two plain
Python numbers and a written-out slope make a step some twenty times faster than arrays of two entries would.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.backpropagation import value_and_grad

if TYPE_CHECKING:
    from engine.optimizers import Optimizer

Pair = tuple[float | int, float | int]
DIVERGED = 1e6
"""A walk has diverged where its loss passes this many times 1 + the first loss; it ends there."""


@dataclass(frozen=True)
class Surface:
    """A loss of two parameters. `height` also takes arrays and traced arrays; `slope` is its gradient at a step."""

    name: str
    height: Callable[[Any, Any], Any]
    slope: Callable[[Any, Any, int], tuple[Any, Any]]
    formula: str  # LaTeX of the height
    view: tuple[float, float, float, float]  # x from, x to, y from, y to
    start: Pair
    minima: tuple[Pair, ...]
    margin: float = 1e-3

    @property
    def target(self) -> float:
        """A loss worth reaching: `margin` above the lowest."""
        return float(self.height(*self.minima[0])) + self.margin

    def __call__(self, point: Float[Array, "... 2"]) -> Float[Array, "..."]:
        """The height at points (..., 2)."""
        return self.height(point[..., 0], point[..., 1])


def quadratic(a: float | int, b: float | int) -> dict[str, Any]:
    """½ (a x² + b y²): the gradient is (a x, b y), and b / a its condition number."""
    return {
        "height": lambda x, y: 0.5 * (a * x * x + b * y * y),
        "slope": lambda x, y, step: (a * x, b * y),
        "formula": rf"\tfrac12\left({a:g}\,x^2 + {b:g}\,y^2\right)",
        "minima": ((0.0, 0.0),),
    }


def turned(x: Any, y: Any) -> Any:
    """½ (a² + 100 b²) with a = 0.8 x + 0.6 y and b = 0.8 y − 0.6 x: the ravine, turned by 37 degrees."""
    along, across = 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x
    return 0.5 * (along * along + 100 * across * across)


def turned_slope(x: Any, y: Any, step: int) -> tuple[Any, Any]:
    along, across = 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x
    return 0.8 * along - 60 * across, 0.6 * along + 80 * across


def rosenbrock(x: Any, y: Any) -> Any:
    """(1 − x)² + 100 (y − x²)²: a curved valley with an almost level floor (Rosenbrock 1960)."""
    bend = y - x * x
    return (1 - x) * (1 - x) + 100 * bend * bend


def rosenbrock_slope(x: Any, y: Any, step: int) -> tuple[Any, Any]:
    bend = y - x * x
    return 2 * (x - 1) - 400 * x * bend, 200 * bend


def saddle(x: Any, y: Any) -> Any:
    """5 x² + 2.5 (y² − 1)²: level at (0, 0), where it rises along x and falls along y; lowest at (0, ±1)."""
    return 5 * x * x + 2.5 * (y * y - 1) * (y * y - 1)


def saddle_slope(x: Any, y: Any, step: int) -> tuple[Any, Any]:
    return 10 * x, 10 * (y * y * y - y)


# A loss that comes in small samples ----------------------------------------------------------------------------------

EXAMPLES, BATCH = 64, 4


@functools.cache
def examples() -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """64 measured points (t, z) around the line z = 1.5 t − 0.5."""
    rng = np.random.default_rng(7)
    t = rng.uniform(-1.5, 1.5, EXAMPLES)
    return t, 1.5 * t - 0.5 + rng.normal(0, 0.5, EXAMPLES)


@functools.cache
def moments(step: int) -> tuple[float, ...]:
    """The means of t, t², z, t·z and z² over the 4 examples that this step sees; over all 64 for step −1.

    The slope of ½ · mean (x t + y − z)² needs nothing else. Every walk sees the same batches.
    """
    t, z = examples()
    if step >= 0:
        chosen = np.random.default_rng([7, step]).choice(EXAMPLES, BATCH, replace=False)
        t, z = t[chosen], z[chosen]
    return tuple(float(np.mean(product)) for product in (t, t * t, z, t * z, z * z))


def line_fit(x: Any, y: Any) -> Any:
    """½ · mean over all 64 examples of (x t + y − z)²."""
    mean_t, mean_tt, mean_z, mean_tz, mean_zz = moments(-1)
    return 0.5 * (mean_tt * x * x + 2 * mean_t * x * y + y * y - 2 * mean_tz * x - 2 * mean_z * y + mean_zz)


def line_fit_slope(x: Any, y: Any, step: int) -> tuple[Any, Any]:
    """The slope as the 4 examples of this step show it."""
    mean_t, mean_tt, mean_z, mean_tz, _ = moments(step)
    return mean_tt * x + mean_t * y - mean_tz, mean_t * x + y - mean_z


def best_line() -> Pair:
    """The least-squares line: where the loss over all examples is lowest."""
    t, z = examples()
    slope, height = np.polyfit(t, z, 1)
    return float(slope), float(height)


SURFACES = {
    surface.name: surface
    for surface in (
        Surface(name="bowl", **quadratic(10, 20), view=(-2.4, 2.4, -1.6, 1.6), start=(-2.0, 1.2)),
        Surface(name="ravine", **quadratic(1, 100), view=(-1.8, 1.8, -1.2, 1.2), start=(-1.0, 1.0)),
        Surface("turned", turned, turned_slope, r"\tfrac12\left((0.8x + 0.6y)^2 + 100\,(0.8y - 0.6x)^2\right)",
                (-1.8, 1.8, -1.2, 1.2), (-1.4, 0.2), ((0.0, 0.0),)),
        Surface("rosenbrock", rosenbrock, rosenbrock_slope, r"(1-x)^2 + 100\,(y-x^2)^2",
                (-1.8, 1.8, -0.8, 1.6), (-1.2, 1.0), ((1.0, 1.0),)),
        Surface("saddle", saddle, saddle_slope, r"5\,x^2 + \tfrac52\left(y^2-1\right)^2",
                (-2.1, 2.1, -1.4, 1.4), (1.6, 0.001), ((0.0, 1.0), (0.0, -1.0))),
        Surface("noisy", line_fit, line_fit_slope, r"\tfrac12\,\overline{(x\,t + y - z)^2}",
                (-1.5, 3.3, -2.1, 1.1), (-1.0, 0.8), (best_line(),), 0.005),
    )
}  # fmt: skip


def heights(surface: Surface, columns: int = 54, rows: int = 36) -> Float[Array, "rows columns"]:
    """The surface on an even grid over its view, low y first."""
    x0, x1, y0, y1 = surface.view
    return surface.height(np.linspace(x0, x1, columns)[None, :], np.linspace(y0, y1, rows)[:, None])


# The walk ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trajectory:
    """A walk: before the first step, and after each one. It ends early where it diverges."""

    points: Float[Array, "times 2"]
    losses: Float[Array, " times"]
    gradients: Float[Array, "steps 2"]  # as the optimizer saw them
    diverged: int | None  # the step after which the loss was beyond all bounds

    def steps_to(self, loss: float) -> int | None:
        """How many steps until the loss is first below `loss`; None if it never is."""
        below = np.flatnonzero(self.losses < loss)
        return int(below[0]) if len(below) else None


def trajectory(
    optimizer: Optimizer,
    surface: Surface | str | Callable[[Any], Any],
    start: Sequence[float | int] | Float[Array, "2"],
    steps: int,
    *,
    noise: float | int = 0.0,
    seed: int = 0,
    rates: Sequence[float | int] | None = None,
) -> Trajectory:
    """Walk `steps` steps from `start`; `rates` gives each step its own learning rate.

    `surface` is a Surface or its name, or any NumPy function of a point (2,), whose gradient then comes from
    backpropagation. `noise` is the spread of a random error added to both slopes at each step, the same for every
    optimizer. An optimizer of matrices is given the two numbers as a matrix of one row.
    """
    height, slope = _two_ways(surface)
    errors = (noise * np.random.default_rng(seed).standard_normal((steps, 2))).tolist()
    as_row = getattr(optimizer, "matrices", False)
    now = (float(start[0]), float(start[1]))
    points, losses, gradients = [now], [float(height(*now))], []
    limit, diverged = DIVERGED * (1 + abs(losses[0])), None
    for step in range(steps):
        if rates is not None:
            optimizer.lr = rates[step]
        down_x, down_y = slope(*now, step)
        gradients.append((down_x + errors[step][0], down_y + errors[step][1]))
        now = _row_step(optimizer, now, gradients[-1]) if as_row else optimizer.step(now, gradients[-1])
        points.append(now)
        losses.append(float(height(*now)))
        if not abs(losses[-1]) <= limit:
            diverged = step + 1
            break
    return Trajectory(np.array(points), np.array(losses), np.array(gradients).reshape(-1, 2), diverged)


def _row_step(optimizer: Optimizer, now: Pair, gradient: Pair) -> Pair:
    x, y = optimizer.step(np.array([now]), np.array([gradient]))[0].tolist()
    return x, y


def _two_ways(surface: Any) -> tuple[Callable[..., Any], Callable[..., tuple[Any, Any]]]:
    """The height of (x, y), and its slope."""
    if isinstance(surface, str):
        if surface not in SURFACES:
            raise ValueError(f"There is no surface called {surface}; there are {', '.join(SURFACES)}.")
        surface = SURFACES[surface]
    if isinstance(surface, Surface):
        return surface.height, surface.slope
    both = value_and_grad(surface)
    return lambda x, y: surface(np.array([x, y])), lambda x, y, step: both(np.array([x, y]))[1].tolist()
