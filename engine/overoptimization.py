"""What a policy does with a reward that is not quite what was meant.

The proxies here are read off the answers' texts: how long, how warm, how sure. Optimised a little, a proxy that goes
along with quality helps; optimised hard, the policy finds where the two part. Sources: Gao et al. 2022,
arXiv:2210.10760; that the shape depends on the errors' tails: Kwa et al. 2024, arXiv:2407.14503.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.post_training import expected_reward, kl_divergence, kl_regularised_policy

WARM = ("wonderful", "lovely", "loves", "love", "great", "sorry", "thank")
SURE = ("always", "every", "surely", "guaranteed", "never", "certainly")
ERRORS = {"normal": "bell-shaped", "heavy": "rare but huge", "none": "none"}


def length(text: str) -> float:
    """Tens of words."""
    return len(text.split()) / 10


def warmth(text: str) -> float:
    """Warm words and exclamation marks."""
    return float(_count(text, WARM) + text.count("!"))


def certainty(text: str) -> float:
    """Words that allow no exception."""
    return float(_count(text, SURE))


PROXIES = {"length": length, "warmth": warmth, "certainty": certainty}


def _count(text: str, wanted: tuple[str, ...]) -> int:
    return sum(word in wanted for word in re.findall(r"[a-z]+", text.lower()))


@dataclass(frozen=True)
class Pressure:
    """The best policy for a proxy at each β: what the proxy says of it, what is true, and how far it has moved."""

    betas: Float[Array, " times"]
    policies: Float[Array, "times n"]
    proxy: Float[Array, " times"]  # mean reward of the policy's answers by the proxy
    true: Float[Array, " times"]  # and in truth
    divergence: Float[Array, " times"]  # from the reference, in nats

    @property
    def best(self) -> int:
        """Where the true reward is largest."""
        return int(np.argmax(self.true))


def under_pressure(
    reference: Float[Array, "n"], proxy: Float[Array, "n"], true: Float[Array, "n"], betas: Float[Array, " times"]
) -> Pressure:
    """The closed-form policy for the proxy at each β, judged by both rewards."""
    policies = np.stack([kl_regularised_policy(reference, proxy, float(beta)) for beta in betas])
    kept = [kl_divergence(policy, reference) for policy in policies]
    scored = [[expected_reward(policy, reward) for policy in policies] for reward in (proxy, true)]
    return Pressure(betas, policies, np.array(scored[0]), np.array(scored[1]), np.array(kept))


def crowd(errors: str, share: float, seed: int, count: int = 2000) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """True rewards of many answers, normal, and a proxy: true + error, of which the error has a `share` of the spread.

    "heavy" errors are Student's t with 3 degrees of freedom: mostly small, a few huge. Both rewards have variance 1.
    Raises ValueError for an unknown kind of errors.
    """
    if errors not in ERRORS:
        raise ValueError(f"Errors are one of {', '.join(ERRORS)}, not {errors}.")
    rng = np.random.default_rng(seed)
    true = rng.standard_normal(count)
    noise = {"normal": rng.standard_normal(count), "heavy": rng.standard_t(3, count), "none": np.zeros(count)}[errors]
    unit = noise / max(float(np.std(noise)), 1e-12)
    return true, np.sqrt(1 - share) * true + np.sqrt(share) * unit
