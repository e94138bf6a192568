"""Random blocks on top of each other against loops written out, and what the papers say becomes of the stream."""

import numpy as np
import pytest

from engine.block import rms_norm, run_block
from engine.block_study import ARRANGEMENTS, HEADS, TOKENS, WIDTH, random_blocks, random_stack


def sublayer(stream, block, part, normed):
    """What one sublayer of a block adds to a stream, the other one silenced."""
    seen = {}

    def tap(name, value):
        if name in ("attn.norm", "ffn.norm") and not normed:
            value = stream
        if name == "attn.out" and part == "ffn":
            value = value * 0
        seen[name] = value
        return value

    run_block(stream, block, HEADS, lambda q_and_k: q_and_k, tap=tap)
    return seen[f"{part}.out"]


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("residual", [True, False])
def test_the_stack_equals_its_blocks_one_by_one(arrangement, residual):
    x, blocks = random_blocks(3, 0.8, 4)
    found = random_stack(3, arrangement=arrangement, residual=residual, gain=0.8, seed=4)
    first = np.linalg.norm(x, axis=-1).mean()
    for row, block in enumerate(blocks, 1):
        for part in ("attn", "ffn"):
            added = sublayer(x, block, part, arrangement == "pre")
            x = x + added if residual else added
            x = rms_norm(x, np.ones(WIDTH)) if arrangement == "post" else x
        assert found.lengths[row] == pytest.approx(np.linalg.norm(x, axis=-1).mean() / first, rel=1e-9)
        unit = [v / np.sqrt(v @ v) for v in x]
        cosines = [unit[i] @ unit[j] for i in range(TOKENS) for j in range(i)]
        assert found.likeness[row] == pytest.approx(np.mean(cosines), abs=1e-9)


def test_random_weights_keep_the_size_of_what_they_get():
    x, blocks = random_blocks(6, 1.0, 9)
    assert np.std(x) == pytest.approx(1, rel=0.15)
    assert np.std([block.w_gate for block in blocks]) == pytest.approx(1 / np.sqrt(WIDTH), rel=0.05)
    assert np.std([block.w_down for block in blocks]) == pytest.approx(1 / np.sqrt(64), rel=0.05)


def test_what_norm_and_residual_are_for():
    pre = random_stack(48)
    assert 1 < pre.lengths[-1] < 30  # grows like the root of the depth
    assert random_stack(48, residual=False).likeness[-1] > 0.99 > pre.likeness[-1] + 0.1
    wild = random_stack(48, arrangement="none", gain=1.3).lengths
    assert np.isnan(wild[-1])
    assert np.nanmax(wild) > 1e6
    assert random_stack(48, arrangement="post").lengths[-1] == pytest.approx(np.sqrt(WIDTH) / 5.6, rel=0.1)


def test_rows_and_first_row():
    found = random_stack(5, gain=0.5, seed=2)
    assert len(found.lengths) == len(found.likeness) == 6
    assert found.lengths[0] == 1
    with pytest.raises(ValueError, match="one of these places"):
        random_stack(3, arrangement="sideways")
