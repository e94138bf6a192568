"""Attention: Q, K and V. The labs of the page."""

from pathlib import Path

import numpy as np
from dash import register_page

from engine import attention as engine
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Toggle, within
from ui.figures import arcs, matrix, row, stack

chapter = Chapter(__name__, Path(__file__).parent)


@chapter.lab(
    "random",
    title="The whole of attention, on random numbers",
    controls=[Slider("seed", "Seed", 1, 0, 99), Slider("sharpness", "Sharpness", 1.0, 0.0, 4.0, 0.05), Toggle("causal", "Causal mask", True)],
    runs=[engine.attention],
    snippet="""
        import numpy as np
        from engine.attention import attention

        q, k, v = np.random.default_rng({seed}).normal(size=(3, 4, 8))
        result = attention(q * {sharpness}, k, v, causal={causal})
        weights, output = result.weights, result.output
        print(weights.round(4))
    """,
    provenance="Random numbers, computed live",
)
def random(seed, sharpness, causal):
    q, k, v = np.random.default_rng(seed).normal(size=(3, 4, 8))
    result = engine.attention(q * sharpness, k, v, causal=causal)
    names = [f"token {i + 1}" for i in range(4)]
    picture = stack(
        row(matrix(q * sharpness, title="Q", name="q", tensor="q", rows=names, limit=3), matrix(k, title="K", name="k", tensor="k", rows=names, limit=3)),
        row(matrix(result.scores, title="Scores", name="scores", tensor="attn", rows=names, product=("q", "k.T"), divide=8**0.5, limit=3),
            matrix(result.weights, title="Weights", name="weights", tensor="attn", rows=names, scale="share", digits=3)),
    )
    return picture, f"Token 4 gives token 1 {result.weights[3, 0]:.1%} of its attention.", "", {"weights": result.weights, "output": result.output}


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
