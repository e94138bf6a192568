"""One memory for many readers: rules that hold at every step, and small cases worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.paging import POLICIES, Request, requests, simulate

texts = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=10)


@settings(deadline=None, max_examples=150)
@given(texts, st.sampled_from(POLICIES), st.sampled_from([1, 2, 3, 4, 6]), st.integers(24, 80))
def test_rules_of_every_step(drawn, policy, size, places):
    asked = [Request(chr(65 + i), *one) for i, one in enumerate(drawn)]
    blocks = -(-places // size)
    found = simulate(policy, asked, blocks, size, longest=24)
    assert sorted(found.moments[-1].finished) == [one.name for one in asked]
    assert not found.moments[-1].running
    ends = {one.name: one.prompt + one.answer for one in asked}
    for before, moment in zip(found.moments, found.moments[1:], strict=False):
        held = [block for one in moment.running for block in one.blocks]
        assert len(held) == len(set(held)), "no block has two owners"
        assert set(held) <= set(range(blocks))
        tokens = {one.request.name: one.tokens for one in before.running}
        for one in moment.running:
            name = one.request.name
            assert one.tokens <= len(one.blocks) * size
            assert one.tokens < ends[name]
            if name in tokens:
                assert one.tokens == tokens[name] + 1, "one token a step"
            if policy == "paged":
                assert len(one.blocks) * size - one.tokens <= size, "no more than a block is empty"
            else:
                assert one.blocks == tuple(range(one.blocks[0], one.blocks[0] + -(-24 // size))), "one stretch"
        assert policy == "paged" or not moment.preempted
        assert policy != "one at a time" or len(moment.running) <= 1


def test_by_hand():
    """Two blocks of two places. A (1 + 2) and B (1 + 2) each need both blocks in the end; only A can have them."""
    asked = [Request("A", 0, 1, 2), Request("B", 0, 1, 2)]
    found = simulate("paged", asked, blocks=2, block_size=2, longest=4)
    inside = [[(one.request.name, one.blocks, one.tokens) for one in moment.running] for moment in found.moments]
    assert inside == [
        [],
        [("A", (0,), 1), ("B", (1,), 1)],
        [("A", (0,), 2), ("B", (1,), 2)],
        [],  # A takes the block that B had to leave, gets its last token and goes
        [("B", (0, 1), 2)],  # B's two tokens are read again, as a prompt
        [],
    ]
    assert found.moments[3].preempted == ("B",)
    assert found.moments[-1].wasted == 2
    assert found.moments[-1].finished == ("A", "B")
    reserved = simulate("reserved", asked, blocks=2, block_size=2, longest=4)
    assert [len(moment.running) for moment in reserved.moments] == [0, 1, 1, 1, 1, 0]


def test_alone_a_reader_is_served_as_fast_by_any_policy():
    asked = [Request("A", 3, 5, 7)]
    assert {simulate(policy, asked).steps for policy in POLICIES} == {3 + 1 + 7}


def test_nobody_overtakes_with_reserved_stretches():
    asked = requests(12, seed=4)
    found = simulate("reserved", asked)
    came = []
    for moment in found.moments:
        came += [one.request.name for one in moment.running if one.request.name not in came]
    assert came == [one.name for one in asked]


@pytest.mark.parametrize("seed", range(6))
def test_paging_fills_the_memory_better_and_serves_sooner(seed):
    asked = requests(12, seed)
    reserved, paged = (simulate(policy, asked, blocks=18, block_size=4) for policy in ("reserved", "paged"))
    assert paged.use > reserved.use
    assert paged.steps < reserved.steps


def test_the_same_seed_draws_the_same_requests():
    assert requests(12, 5) == requests(12, 5) != requests(12, 6)
    for one in requests(26, 7, longest=24):
        assert one.prompt >= 2
        assert one.answer >= 2
        assert one.prompt + one.answer <= 24


def test_wrong_arguments():
    with pytest.raises(ValueError, match="A policy is one of"):
        simulate("magic", requests(2, 0))
    with pytest.raises(ValueError, match="a single text may need 24"):
        simulate("paged", requests(2, 0), blocks=5, block_size=4)
