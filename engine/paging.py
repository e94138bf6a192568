"""One memory for many readers: reserve a stretch for each, or hand out blocks as they are needed.

Requests arrive, are let in when there is room, read their prompt, and then all of them get one more token a step, until
each has said what it had to say. Nobody knows beforehand how long that will be.

Sources: blocks and block tables, Kwon et al. 2023 (PagedAttention), arXiv:2309.06180; letting requests in and out
between any two steps, Yu et al. 2022 (Orca), OSDI '22. Left out: sharing of blocks between texts with the same
beginning, swapping to another memory, and that a long prompt takes longer than one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

POLICIES = ("one at a time", "reserved", "paged")


@dataclass(frozen=True)
class Request:
    """A reader's text: it arrives at a step with a prompt, and will have `answer` tokens generated."""

    name: str
    arrives: int
    prompt: int
    answer: int


@dataclass(frozen=True)
class Running:
    """A request that has a place in the memory: which blocks, in the order of its text, and how far it is."""

    request: Request
    blocks: tuple[int, ...]  # the block table: logical block i is physical block blocks[i]
    tokens: int  # whose keys and values are stored


@dataclass(frozen=True)
class Moment:
    """The memory after a step."""

    running: tuple[Running, ...]
    waiting: tuple[Request, ...]
    finished: tuple[str, ...]
    preempted: tuple[str, ...]  # in this step: thrown out, to be read again later
    wasted: int  # positions computed so far and thrown away again


@dataclass(frozen=True)
class Simulation:
    """All moments, from the empty memory to the last finished request."""

    policy: str
    blocks: int
    block_size: int
    moments: tuple[Moment, ...]

    def stored(self, step: int) -> int:
        """Tokens in the memory after a step."""
        return sum(one.tokens for one in self.moments[step].running)

    def held(self, step: int) -> int:
        """Places that are taken, filled or not."""
        return sum(len(one.blocks) for one in self.moments[step].running) * self.block_size

    @property
    def steps(self) -> int:
        """Steps until everyone was served."""
        return len(self.moments) - 1

    @property
    def use(self) -> float:
        """Stored tokens as a share of all places, on average over the steps."""
        return float(np.mean([self.stored(step) for step in range(1, self.steps + 1)])) / (
            self.blocks * self.block_size
        )

    @property
    def together(self) -> float:
        """Requests in the memory, on average over the steps."""
        return float(np.mean([len(moment.running) for moment in self.moments[1:]]))


def requests(count: int, seed: int, longest: int = 24, every: float = 0.7) -> tuple[Request, ...]:
    """Seeded requests: prompts of 2 to 8 tokens, answers mostly short and now and then long, `longest` in all."""
    rng = np.random.default_rng(seed)
    arrivals = np.floor(np.cumsum(rng.exponential(every, count))).astype(int)
    made = []
    for i in range(count):
        prompt = int(rng.integers(2, 9))
        answer = 2 + int(rng.exponential(6.0))
        made.append(Request(chr(ord("A") + i), int(arrivals[i]), prompt, min(answer, longest - prompt)))
    return tuple(made)


def simulate(
    policy: str, asked: Sequence[Request], blocks: int = 24, block_size: int = 4, longest: int = 24
) -> Simulation:
    """Serve the requests to the end, first come, first served.

    "reserved": each gets neighbouring blocks for `longest` tokens at once. "paged": blocks wherever one is free, the
    next when the last is full; if none is free, the newest request is thrown out and starts again later. "one at a
    time": as reserved, but the next is let in when the memory is empty. Raises ValueError for a policy that is none of
    these, and where not even one text fits.
    """
    if policy not in POLICIES:
        raise ValueError(f"A policy is one of {', '.join(POLICIES)}, not {policy!r}.")
    if blocks * block_size < longest:
        raise ValueError(f"The memory has {blocks * block_size} places; a single text may need {longest}.")
    waiting, moments = tuple(sorted(asked, key=lambda one: one.arrives)), [Moment((), (), (), (), 0)]
    queue: tuple[Request, ...] = ()
    while len(moments[-1].finished) < len(asked):
        step = len(moments)
        queue += tuple(one for one in waiting if one.arrives < step)
        waiting = tuple(one for one in waiting if one.arrives >= step)
        moment = _step(replace(moments[-1], waiting=queue), policy, blocks, block_size, longest)
        queue = moment.waiting
        moments.append(moment)
    return Simulation(policy, blocks, block_size, tuple(moments))


def _step(before: Moment, policy: str, blocks: int, size: int, longest: int) -> Moment:
    """One more token for everyone inside; then the finished leave, and those waiting are let in and read."""
    grown, queue, thrown, wasted = _one_more(before, blocks, size)
    done = tuple(one for one in grown if one.tokens == one.request.prompt + one.request.answer)
    running = tuple(one for one in grown if one not in done)
    while queue and not thrown and not (policy == "one at a time" and running):
        first = queue[0]
        needed = -(-(longest if policy != "paged" else first.prompt + 1) // size)
        place = _find(_free(running, blocks), needed, together=policy != "paged")
        if place is None:
            break
        running, queue = (*running, Running(first, place, first.prompt)), queue[1:]
    names = tuple(one.request.name for one in done)
    return Moment(running, queue, before.finished + names, tuple(one.name for one in thrown), wasted)


def _one_more(before: Moment, blocks: int, size: int) -> tuple[list[Running], tuple[Request, ...], list[Request], int]:
    """A token for each, oldest first; who needs a block when none is free has the newest thrown out."""
    inside, wasted = list(before.running), before.wasted
    grown: list[Running] = []
    thrown: list[Request] = []
    while inside:
        one = inside.pop(0)
        while one.tokens == len(one.blocks) * size and not (free := _free((*grown, one, *inside), blocks)):
            out = inside.pop() if inside else one
            thrown, wasted = [_again(out), *thrown], wasted + out.tokens
            if out is one:
                break
        else:
            more = (free[0],) if one.tokens == len(one.blocks) * size else ()
            grown.append(replace(one, blocks=one.blocks + more, tokens=one.tokens + 1))
    return grown, (*thrown, *before.waiting), thrown, wasted


def _again(one: Running) -> Request:
    """What is left of a request that was thrown out: all its text so far is a prompt to be read again."""
    end = one.request.prompt + one.request.answer
    return replace(one.request, prompt=one.tokens, answer=end - one.tokens)


def _free(running: Sequence[Running], blocks: int) -> list[int]:
    """Blocks that nobody holds."""
    taken = {block for one in running for block in one.blocks}
    return [block for block in range(blocks) if block not in taken]


def _find(free: list[int], needed: int, together: bool) -> tuple[int, ...] | None:
    """Free blocks for a text: any, or the first stretch of neighbours. None where there are not enough."""
    if not together:
        return tuple(free[:needed]) if len(free) >= needed else None
    for start in free:
        stretch = tuple(range(start, start + needed))
        if set(stretch) <= set(free):
            return stretch
    return None
