"""Post-training: from a model that continues text to one that answers. The labs of the page."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import chat_study, chat_template, distillation, fine_tuning, grpo, low_rank, preferences, real_lora
from engine import overoptimization as pressure
from engine import post_training as engine
from engine import small_policy as small
from engine.ledger import CONFIGS
from engine.model import END_IDS
from engine.optimizers import Adam
from engine.sampling import softmax
from engine.tokenization import encode
from pages._chips import many
from pages._post_training import (
    CAREFUL,
    CIRCLE,
    ISLANDS,
    LONG,
    ONE,
    answers_in_full,
    contradictions,
    judge,
    listed,
    order_of,
    pair_chips,
    policy_bars,
    policy_table,
    share,
    signed_text,
    smoothed,
    verdict_words,
    verdicts,
)
from pages._reading import ENCODING, piece, spoken, the_model
from pages._tuning import (
    SAMPLE,
    base_curve,
    candidate_bars,
    ended,
    lesson_curve,
    said_chips,
    taught,
    tuned_curve,
    tuned_shown,
)
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Text, Toggle, within
from ui.figures import bars, curve, matrix, readouts, row, sign, stack, table, tokens
from ui.jobs.work import Long, Progress, Steps
from ui.lab import Preset, ReaderError
from ui.mathml import bracketed, number, signed

chapter = Chapter(__name__, Path(__file__).parent)
for shown_code in (
    engine.bradley_terry_loss,
    engine.kl_regularised_policy,
    engine.dpo_loss,
    engine.grpo_loss,
    engine.lora,
):
    chapter.code[shown_code.__name__] = shown_code

REAL = "SmolLM2's real weights"
HAND = "Five answers written for this page; the base model's probabilities and each answer's quality are set by hand"
SKY = "Explain why the sky is blue."
STEPS = 300
PULL = 0.02
FITTED = {"pull": "0.02", "steps": STEPS}


# --- the real model, asked in two ways -------------------------------------------------------------------------------


@chapter.lab(
    "chat",
    title="The same weights, asked twice",
    controls=[
        Text("question", "Question", SKY, limit=160, rows=1),
        Choice("frame", "Asked plainly", "plain", {"plain": "the question alone", "form": "as “Question: … Answer:”",
                                                   "list": "as number 1 of a list"}),
        Choice("tokens", "Tokens to write", "8", {str(n): str(n) for n in chat_study.LENGTHS}),
        Pick("at", "Token", 0, 47),
    ],
    runs=[chat_study.continued, chat_template.render],
    snippet="""
        from engine.chat_study import asked_in_chat, asked_plainly, continued
        from engine.model import load
        from engine.tokenization import decode

        model, question = load(), {question!r}
        plain = [said.id for said in continued(model, asked_plainly(question, {frame!r}), {tokens})]
        chat = [said.id for said in continued(model, asked_in_chat(question), {tokens})]
        print(decode(plain, "smollm2"), decode(chat, "smollm2"), sep="\\n---\\n")
    """,
    provenance=REAL + ", the likeliest token each time",
    presets=[
        Preset("The sky", {"question": SKY, "frame": "plain", "tokens": "24", "at": 0}, "Two ways to begin."),
        Preset("A list of questions", {"question": SKY, "frame": "list", "tokens": "24", "at": 0},
               "In a list, what follows a question is often the next question."),
        Preset("Half a sentence", {"question": "The capital of France is", "frame": "plain", "tokens": "24", "at": 0},
               "Not a question at all. Who completes it, and who replies to it?"),
        Preset("A greeting", {"question": "Hello!", "frame": "plain", "tokens": "24", "at": 0},
               "Who says hello back?"),
    ],
    real=True,
    height=(640, 1418),
)  # fmt: skip
def chat(sentence: str, question: str, frame: str, tokens: str, at: int) -> tuple[Any, ...]:
    if not question.strip():
        raise ReaderError("Type a question.")
    model, count = the_model(), int(tokens)
    prompts = chat_study.asked_plainly(question, frame), chat_study.asked_in_chat(question)
    plain, said = (chat_study.continued(model, ids, count) for ids in prompts)
    place = min(within(at, max(len(plain), len(said))), count - 1)
    picture = stack(
        said_chips(prompts[0], plain, "Asked plainly", "plain", place),
        said_chips(prompts[1], said, "Asked through the chat template", "chat", place),
        row(candidate_bars(plain, place, "plainly"), candidate_bars(said, place, "in the template")),
    )
    same = next((i for i, (a, b) in enumerate(zip(plain, said, strict=False)) if a.id != b.id), None)
    apart = (
        "Both write the same tokens so far."
        if same is None
        else f"They part at token {same + 1}: “{spoken(piece(plain[same].id))}” ({share(plain[same].p)}) here, "
        f"“{spoken(piece(said[same].id))}” ({share(said[same].p)}) there."
    )
    sentence = (
        f"The same weights read {len(prompts[0])} tokens or {len(prompts[1])}, and write on. {apart} "
        f"{ended(plain, 'Asked plainly')} {ended(said, 'In the template')}"
    )
    formula = rf"\logits{{p}}(\text{{likeliest token {place + 1}}}) = " + (
        r"\quad ".join(
            rf"{number(one[place].p, 3)}\;\text{{{how}}}"
            for one, how in ((plain, "plainly"), (said, "in the template")) if place < len(one)
        )
    )  # fmt: skip
    return picture, sentence, formula, {
        "plain": np.array([one.id for one in plain]), "chat": np.array([one.id for one in said]),
        "plain_p": np.array([one.p for one in plain]), "chat_p": np.array([one.p for one in said]),
    }  # fmt: skip


# --- the loss mask ---------------------------------------------------------------------------------------------------

ANSWER = "The sky is blue because the air scatters blue light more than red."


@chapter.lab(
    "mask",
    title="Which tokens count",
    controls=[
        Text("question", "Question", SKY, limit=200, rows=1),
        Text("answer", "The answer to learn", ANSWER, limit=300, rows=2),
        Toggle("mask", "Mask the prompt", True),
    ],
    runs=[chat_study.dialogue, chat_template.turns, engine.masked_loss],
    snippet="""
        from engine.chat_study import example
        from engine.model import load

        found = example(load(), {question!r}, {answer!r})
        masked, unmasked, surprisals = found.masked, found.unmasked, found.surprisals
        print(masked, unmasked)
    """,
    provenance=REAL + " and the chat template of its own file",
    presets=[
        Preset("An answer it might give", {"question": SKY, "answer": ANSWER, "mask": True}, "Close to its own words."),
        Preset("A pirate", {"question": SKY, "answer": "Arr! The air be throwing the blue light about, matey.",
                            "mask": True}, "The same fact in another voice: which tokens are dear?"),
        Preset("Without the mask", {"question": SKY, "answer": ANSWER, "mask": False},
               "Now the question and the template are to be learned, too."),
    ],
    real=True,
    height=(520, 1030),
)  # fmt: skip
def mask(sentence: str, question: str, answer: str, mask: bool) -> tuple[Any, ...]:
    if not question.strip() or not answer.strip():
        raise ReaderError("Type a question and the answer that is to be learned.")
    found = chat_study.example(the_model(), question, answer)
    counts = found.counts if mask else np.arange(len(found.ids)) > 0
    total, n = float(np.sum(found.surprisals * counts)), int(np.sum(counts))
    picture = stack(
        tokens(
            [{"text": piece(i), "key": f"t:{j}", "note": f"{lost:.1f}" if counts[j] else "–"}
             for j, (i, lost) in enumerate(zip(found.ids, found.surprisals, strict=True))],
            title="The example as the model gets it: surprisal of the tokens that count, in nats",
            shares=np.minimum(np.where(counts, found.surprisals, 0.0) / 8, 1),
            marked=np.flatnonzero(counts).tolist(),
            show=["no-ids"],
        ),
        bars(
            ["masked", "unmasked"],
            [found.masked, found.unmasked],
            title="Loss in nats a token: the answer alone, and every token",
            tensor="grad",
            marked=[0 if mask else 1],
            keys=["loss:masked", "loss:all"],
        ),
        readouts([("tokens", str(len(found.ids))), ("that count", str(n)),
                  ("sum of their surprisals", f"{total:.2f} nats"), ("their mean", f"{total / n:.4f} nats")]),
    )  # fmt: skip
    dearest = int(np.argmax(np.where(counts, found.surprisals, -1)))
    cut = len(found.ids) == chat_study.MOST
    note = f"The dialogue is long: its first {chat_study.MOST} tokens are used. " if cut else ""
    sentence = (
        f"{note}{n} of {len(found.ids)} tokens count, and the loss is "
        f"{{{{loss:{'masked' if mask else 'all'}|{total / n:.3f} nats}}}} a token. "
        f"Dearest of them is “{spoken(piece(found.ids[dearest]))}” with {found.surprisals[dearest]:.1f} nats. "
        + (
            "Everything before the answer is read, but teaches nothing."
            + ("" if cut else " The token that ends the answer counts as well.")
            if mask
            else "A gradient step would now also make the model better at writing the question."
        )
    )
    formula = (
        rf"\mathrm{{loss}} = \frac{{\sum_t m_t \cdot \left(-\log \logits{{p}}(\tokens{{x}}_t)\right)}}{{\sum_t m_t}} = "
        rf"\frac{{{number(total)}}}{{{n}}} = {number(total / n)}"
    )
    return picture, sentence, formula, {
        "masked": found.masked, "unmasked": found.unmasked, "surprisals": found.surprisals, "counts": found.counts,
    }  # fmt: skip


# --- supervised fine-tuning of a small GPT ---------------------------------------------------------------------------


@chapter.lab(
    "tuning",
    title="Teach a small model to answer",
    controls=[
        Slider("shown", "Animals with dialogues, of 12", 6, 1, 11),
        Toggle("mask", "Mask the questions", True),
        Slider("seed", "Seed", 0, 0, 20),
    ],
    runs=[fine_tuning.tune, fine_tuning.dialogue_loss, fine_tuning.base_text, engine.masked_loss],
    snippet="""
        from engine.fine_tuning import pretrain, tune

        *_, base = pretrain({seed})
        *_, tuned = tune(base.parameters, {shown}, {mask}, {seed})
        right, answers = tuned.right, tuned.answers
        print(right, answers)
    """,
    provenance="A GPT trained live, in two stages, on texts of this project",
    presets=[
        Preset("Half of the animals", {"shown": 6, "mask": True}, "The other half it must answer from its reading."),
        Preset("One animal", {"shown": 1, "mask": True}, "How few dialogues teach what an answer is?"),
        Preset("No mask", {"shown": 6, "mask": False}, "The questions are learned, too. Does it hurt?"),
    ],
    height=120,
    long=Long(seconds=150, takes="about 15 seconds", quick={"shown": 9}),
)
def tuning(shown: int, mask: bool, seed: int) -> Steps:
    first: list[fine_tuning.Moment] = []
    for moment in fine_tuning.pretrain(seed):
        first.append(moment)
        part = None if moment.step % 40 else (base_curve(first), "The base model reads.")
        yield Progress(0.8 * moment.step / fine_tuning.BASE_STEPS, f"Reading, step {moment.step}", part)
    then: list[fine_tuning.Moment] = []
    for moment in fine_tuning.tune(first[-1].parameters, shown, mask, seed):
        then.append(moment)
        part = (tuned_curve(then), "Now it is shown dialogues.") if moment.answers is not None else None
        yield Progress(0.8 + 0.2 * moment.step / fine_tuning.TUNING_STEPS, f"Dialogues, step {moment.step}", part)
    return tuned_shown(first, then, shown, mask)


# --- a reward from pairs ---------------------------------------------------------------------------------------------


@chapter.lab(
    "rewards",
    title="Your verdicts, and the rewards they make",
    controls=[
        verdicts(CAREFUL),
        Slider("steps", "Steps of gradient descent", STEPS, 0, STEPS),
        Choice("pull", "Pull towards 0", "0.02", {"0": "none", "0.02": "weak", "0.2": "strong"}),
    ],
    runs=[engine.bradley_terry_loss, preferences.fit_rewards, preferences.win_probabilities],
    snippet="""
        from engine.preferences import fit_rewards, from_trail, win_probabilities

        rewards = fit_rewards(from_trail({wins!r}), 5, 300, pull={pull}).path[{steps}]
        probabilities = win_probabilities(rewards)
        print(rewards.round(3), probabilities.round(3), sep="\\n")
    """,
    provenance="Five answers written for this page; rewards fitted live to your verdicts",
    presets=[
        judge("A careful judge", CAREFUL, "Helpful first, wrong last. All ten pairs agree.", **FITTED),
        judge("Likes it long", LONG, "A judge in a hurry: more words look like more work.", **FITTED),
        judge("A circle", CIRCLE, "Helpful beats rambling beats flattering beats helpful. No ranking can say that.",
              **FITTED),
        judge("Two islands", ISLANDS, "Two pairs that share no answer: what is known across them?", **FITTED),
        judge("No pull", CAREFUL, "Nobody contradicts anybody, so rewards never stop growing.", pull="0", steps=STEPS),
    ],
    height=900,
)  # fmt: skip
def rewards(wins: str, steps: int, pull: str) -> tuple[Any, ...]:
    pairs = preferences.from_trail(wins)
    run = preferences.fit_rewards(pairs, len(small.NAMES), STEPS, pull=float(pull))
    now = np.round(run.path[steps], 12) + 0.0
    beats = preferences.win_probabilities(now)
    picture = stack(
        answers_in_full(),
        pair_chips(pairs),
        row(
            bars(list(small.NAMES), now, title=f"Rewards after {many(steps, 'step')}", tensor="q", limit=3.0,
                 keys=[f"answer:{i}" for i in range(5)]),
            matrix(beats, "How often should the row win against the column?", "attn", rows=list(small.NAMES),
                   columns=list(small.NAMES), scale="share", digits=2),
        ),
        curve(
            [(name, np.arange(STEPS + 1), run.path[:, i]) for i, name in enumerate(small.NAMES)],
            title="Rewards, step by step", x_label="step", y_label="reward",
            tensors=["q", "k", "v", "grad", "ffn"], marker=(steps, float(now[order_of(now)[0]])),
        ),
    )  # fmt: skip
    won, lost = pairs[0] if pairs else (0, 1)
    sentence = f"{verdict_words(pairs, now, beats)} {contradictions(pairs)}".strip()
    gap = float(now[won] - now[lost])
    formula = (
        rf"p(\text{{{small.NAMES[won]}}} \succ \text{{{small.NAMES[lost]}}}) = \sigma(\q{{r}}_w - \q{{r}}_l) = "
        rf"\sigma({number(float(now[won]), 3)} {signed(-float(now[lost]), 3)}) = \frac{{1}}{{1 + "
        rf"e^{{{number(-gap, 3)}}}}}"
        rf" = {number(float(beats[won, lost]), 3)}, \qquad \text{{loss}} = {number(float(run.losses[steps]), 3)}"
    )
    return picture, sentence, formula, {"rewards": now, "probabilities": beats, "losses": run.losses}


# --- a policy on a leash ---------------------------------------------------------------------------------------------

CLIMB = 200


LEASHES = np.round(np.arange(0.05, 5.01, 0.05), 2)  # the slider's values of β


@lru_cache(maxsize=24)
def climb(pairs: preferences.Pairs) -> tuple[Any, Any]:
    """The rewards of these verdicts, and a policy for each β that climbs towards them; kept for the sliders."""
    reward = preferences.fit_rewards(pairs, len(small.NAMES), STEPS, pull=PULL).path[-1]
    return reward, small.ascend(small.REFERENCE, reward, LEASHES, Adam(0.1), CLIMB)


def leash(beta: float) -> int:
    return int(np.argmin(np.abs(LEASHES - beta)))


@chapter.lab(
    "policy",
    title="Follow the reward, on a leash",
    controls=[
        verdicts(CAREFUL),
        Slider("beta", "β, the price of moving", 0.5, 0.05, 5, 0.05),
        Slider("steps", "Steps of gradient ascent", CLIMB, 0, CLIMB),
    ],
    runs=[engine.kl_objective, engine.kl_regularised_policy, small.ascend],
    snippet="""
        from engine.post_training import kl_regularised_policy
        from engine.preferences import fit_rewards, from_trail
        from engine.small_policy import REFERENCE

        reward = fit_rewards(from_trail({wins!r}), 5, 300, pull=0.02).path[-1]
        policy = kl_regularised_policy(REFERENCE, reward, {beta})
        print(reward.round(3), policy.round(4), sep="\\n")
    """,
    provenance=HAND + ". Rewards from your verdicts, as above",
    presets=[
        Preset("A long leash", {"beta": 0.1, "steps": CLIMB}, "Nearly everything on one answer."),
        Preset("A short leash", {"beta": 5, "steps": CLIMB}, "The base model, barely touched."),
        Preset("On the way", {"beta": 0.5, "steps": 15}, "Fifteen steps up: not there yet."),
        judge("Likes it long", LONG, "Other verdicts, another assistant.", beta=0.5, steps=CLIMB),
    ],
    height=760,
)
def policy(wins: str, beta: float, steps: int) -> tuple[Any, ...]:
    pairs = preferences.from_trail(wins)
    reward, climbed = climb(pairs)
    path = climbed[:, leash(beta)]
    best, now = engine.kl_regularised_policy(small.REFERENCE, reward, beta), path[steps]
    goal = float(engine.kl_objective(best, small.REFERENCE, reward, beta))
    reached = float(engine.kl_objective(now, small.REFERENCE, reward, beta))
    apart = float(np.max(np.abs(now - best)))
    moved = float(engine.kl_divergence(best, small.REFERENCE))
    picture = stack(
        pair_chips(pairs),
        policy_table(
            {
                "base model": small.REFERENCE,
                f"after {many(steps, 'step')} of ascent": now,
                "the best, in closed form": best,
            },
            "How often each answer is given",
        ),
        curve(
            [(name, np.arange(CLIMB + 1), path[:, i]) for i, name in enumerate(small.NAMES)],
            title="Probabilities on the way up", x_label="step", y_label="probability",
            tensors=["q", "k", "v", "grad", "ffn"], marker=(steps, float(now[order_of(now)[0]])),
        ),
        readouts([("objective now", signed_text(reached, 5)), ("the largest possible", signed_text(goal, 5)),
                  ("largest difference of a "
                  "probability", f"{apart:.2g}"), ("its KL from the base model", f"{moved:.3f} nats")]),
    )  # fmt: skip
    top = order_of(best)[0]
    sentence = (
        f"With β = {beta:g} the best policy says {{{{answer:{top}|“{small.NAMES[top]}”}}}} {share(float(best[top]))} "
        f"of the time; the base model did so {share(float(small.REFERENCE[top]))}. It has moved by {moved:.2f} nats. "
        f"After {many(steps, 'step')}, gradient ascent is {'there' if apart < 0.005 else 'still on its way'}: no "
        f"probability differs by more than {apart:.2g}."
    )
    lowest, weight = float(np.max(reward)), float(reward[top])
    total = float(np.sum(small.REFERENCE * np.exp((reward - lowest) / beta)))
    formula = (
        rf"\logits{{\pi}} \propto \logits{{\pi}}_{{0}} \, e^{{\q{{r}} / \beta}}: \quad "
        rf"\logits{{\pi}}(\text{{{small.NAMES[top]}}}) = \frac{{{number(float(small.REFERENCE[top]), 3)} \cdot "
        rf"e^{{({number(weight, 3)} {signed(-lowest, 3)}) / {number(beta, 3)}}}}}{{{number(total, 4)}}} = "
        rf"{number(float(best[top]), 4)}"
    )
    return picture, sentence, formula, {"reward": reward, "policy": best, "ascended": now, "objective": reached}


# --- the wrong reward ------------------------------------------------------------------------------------------------

POWERS = np.linspace(1.5, -1.5, 61)
BETAS = 10.0**POWERS
PROXY_WORDS = {"length": "length, in tens of words", "warmth": "warm words and exclamation marks",
               "certainty": "words that allow no exception"}  # fmt: skip


@chapter.lab(
    "pressure",
    title="Reward the wrong thing, harder and harder",
    controls=[
        Choice("proxy", "What is rewarded", "length", PROXY_WORDS),
        Slider("power", "Pressure: β = 10 to the power of minus", 0, -1.5, 1.5, 0.05),
    ],
    runs=[pressure.under_pressure, engine.kl_regularised_policy, *pressure.PROXIES.values()],
    snippet="""
        import numpy as np
        from engine.overoptimization import PROXIES, under_pressure
        from engine.small_policy import ANSWERS, QUALITY, REFERENCE

        proxy = np.array([PROXIES[{proxy!r}](one.text) for one in ANSWERS])
        found = under_pressure(REFERENCE, proxy, QUALITY, 10.0 ** np.linspace(1.5, -1.5, 61))
        proxy_reward, true_reward = found.proxy, found.true
        print(found.betas[found.best], true_reward.max())
    """,
    provenance=HAND + "; the proxies are counted in the answers' texts",
    presets=[
        Preset("Length, gently", {"proxy": "length", "power": 0}, "Here length and quality still go together."),
        Preset("Length, hard", {"proxy": "length", "power": 1.2}, "The longest answer wins, whatever it says."),
        Preset("Warmth", {"proxy": "warmth", "power": 0.5}, "Never right, at no pressure."),
        Preset("Certainty", {"proxy": "certainty", "power": 0.5}, "It rewards the confident mistake."),
    ],
    height=560,
)
def wrong_reward(proxy: str, power: float) -> tuple[Any, ...]:
    by = np.array([pressure.PROXIES[proxy](one.text) for one in small.ANSWERS])
    found = pressure.under_pressure(small.REFERENCE, by, small.QUALITY, BETAS)
    at = int(np.argmin(np.abs(POWERS + power)))
    now = found.policies[at]
    picture = stack(
        row(
            curve(
                [("by the proxy", -POWERS, found.proxy), ("in truth", -POWERS, found.true)],
                title="Mean reward of the policy", x_label="pressure: −log₁₀ β", y_label="reward",
                tensors=["attn", "q"], marker=(float(-POWERS[at]), float(found.true[at])),
            ),
            policy_bars(now, f"The policy at β = {found.betas[at]:.3g}"),
        ),
        table(
            ["answer", "proxy", "true quality", "base model", "now"],
            [[one.name, f"{by[i]:.1f}", signed_text(one.quality, 1), {"share": float(small.REFERENCE[i])},
              {"share": float(now[i])}] for i, one in enumerate(small.ANSWERS)],
            title="What is rewarded, and what is wanted",
        ),
    )  # fmt: skip
    base = float(engine.expected_reward(small.REFERENCE, small.QUALITY))
    peak = found.betas[found.best]
    shape = (
        f"The true reward is highest at β = {peak:.2g} ({signed_text(found.true[found.best])}) and falls from there, "
        f"while "
        "the proxy goes on rising."
        if 0 < found.best < len(BETAS) - 1 and found.true[found.best] - found.true[-1] > 0.01
        else "The more pressure, the worse in truth, from the first step on."
        if found.true[-1] < found.true[0]
        else "Here the two go together all the way."
    )
    sentence = (
        f"At β = {found.betas[at]:.2g} the proxy has risen to {signed_text(found.proxy[at])}, and the true reward "
        f"stands at "
        f"{signed_text(found.true[at])} (base model: {signed_text(base)}). {shape}"
    )
    formula = (
        rf"E[\attn{{\tilde r}}] = \sum \logits{{\pi}} \, \attn{{\tilde r}} = {number(float(found.proxy[at]))}, \qquad "
        rf"E[\q{{r}}] = \sum \logits{{\pi}} \, \q{{r}} = "
        + " + ".join(f"{number(float(p), 2)} \\cdot {bracketed(q, 2)}" for p, q in zip(now, small.QUALITY, strict=True))
        + rf" = {number(float(found.true[at]))}"
    )
    return picture, sentence, formula, {
        "proxy_reward": found.proxy, "true_reward": found.true, "divergence": found.divergence, "betas": found.betas,
    }  # fmt: skip


CROWDS = 31  # seeds of the next lab


@chapter.lab(
    "crowd",
    title="Two thousand answers and a judge who errs",
    controls=[
        Choice("errors", "The judge's errors", "heavy", dict(pressure.ERRORS)),
        Slider("share", "Share of the variance that is error", 0.5, 0.05, 0.95, 0.05),
        Slider("seed", "Seed", 0, 0, CROWDS - 1),
    ],
    runs=[pressure.crowd, pressure.under_pressure],
    snippet="""
        import numpy as np
        from engine.overoptimization import crowd, under_pressure

        true, proxy = crowd({errors!r}, {share}, {seed})
        found = under_pressure(np.full(2000, 1 / 2000), proxy, true, 10.0 ** np.linspace(1.5, -1.5, 61))
        proxy_reward, true_reward = found.proxy, found.true
        print(true_reward.max(), true_reward[-1])
    """,
    provenance="2000 true rewards and a proxy with errors, drawn from the seed; the best policy computed for each β",
    presets=[
        Preset(
            "A few huge errors",
            {"errors": "heavy", "share": 0.5, "seed": 0},
            "A few answers fool the judge completely.",
        ),
        Preset(
            "Many small errors",
            {"errors": "normal", "share": 0.5, "seed": 0},
            "Half noise, and still it helps all the way?",
        ),
        Preset("A perfect judge", {"errors": "none", "share": 0.05}, "Nothing to find."),
    ],
    height=400,
)
def judge_who_errs(errors: str, share: float, seed: int) -> tuple[Any, ...]:
    true, proxy = pressure.crowd(errors, share, seed)
    found = pressure.under_pressure(np.full(len(true), 1 / len(true)), proxy, true, BETAS)
    far = np.sqrt(found.divergence)
    favourite = int(np.argmax(proxy))
    picture = stack(
        curve(
            [("by the judge", far, found.proxy), ("in truth", far, found.true)],
            title="Mean reward, as the policy moves away from the base model", x_label="√KL from the base model",
            y_label="reward", tensors=["attn", "q"], marker=(float(far[found.best]), float(found.true[found.best])),
        ),
        readouts([("best true reward", signed_text(found.true[found.best])),
                  ("at a distance of", f"{found.divergence[found.best]:.2f} nats"),
                  ("at the end, by the judge", signed_text(found.proxy[-1])),
                  ("at the end, in truth", signed_text(found.true[-1]))]),
    )  # fmt: skip
    lost = float(found.true[found.best] - found.true[-1])
    sentence = (
        f"The judge's favourite answer gets {signed_text(proxy[favourite])} from it and is worth "
        f"{signed_text(true[favourite])}. Followed to the end, the judge's reward reaches "
        f"{signed_text(found.proxy[-1])}; "
        f"the true one ends at {signed_text(found.true[-1])}, "
        + (f"{lost:.2f} below its best on the way." if lost > 0.05 else "about as good as it has been on the way.")
    )
    formula = (
        rf"\attn{{\tilde r}} = \sqrt{{{number(1 - share, 3)}}} \, \q{{r}} + \sqrt{{{number(share, 3)}}} \, "
        rf"\grad{{e}}: \quad "
        rf"{number(float(proxy[favourite]), 3)} \;\text{{ for an answer worth }}\; {number(float(true[favourite]), 3)}"
    )
    return picture, sentence, formula, {
        "proxy_reward": found.proxy, "true_reward": found.true, "divergence": found.divergence,
    }  # fmt: skip


# --- preferences without a reward model ------------------------------------------------------------------------------

SHARING = {"own": "each answer has a logit of its own", "traits": "answers share weights, by their traits"}


def dpo_of(pairs: preferences.Pairs, sharing: str) -> preferences.Preferred:
    features = tuple(map(tuple, small.FEATURES.tolist())) if sharing == "traits" else None
    return preferences.dpo_run(pairs, tuple(small.LOGITS.tolist()), tuple(LEASHES.tolist()), STEPS, 1.0, features)


@chapter.lab(
    "dpo",
    title="Straight from pairs to the policy",
    controls=[
        verdicts(CAREFUL),
        Slider("beta", "β", 0.5, 0.05, 5, 0.05),
        Slider("steps", "Steps of gradient descent", STEPS, 0, STEPS),
        Choice("sharing", "The policy", "own", SHARING),
    ],
    runs=[engine.dpo_loss, engine.implicit_reward, preferences.dpo_run],
    snippet="""
        import numpy as np
        from engine.preferences import dpo_run, from_trail
        from engine.small_policy import FEATURES, LOGITS

        features = tuple(map(tuple, FEATURES.tolist())) if {sharing!r} == "traits" else None
        run = dpo_run(from_trail({wins!r}), tuple(LOGITS.tolist()), ({beta},), 300, 1.0, features)
        policy, margins = np.exp(run.log_policy[{steps}, 0]), run.margins[{steps}, 0]
        print(policy.round(4), margins.round(3), sep="\\n")
    """,
    provenance=HAND + "; trained live on your verdicts",
    presets=[
        judge("A careful judge", CAREFUL, "All ten pairs.", sharing="own", beta=0.5, steps=STEPS),
        judge("One pair, shared weights", ONE, "“Helpful” is preferred to “rambling”. Watch “helpful” fall.",
              sharing="traits", beta=0.5, steps=STEPS),
        judge("One pair, separate logits", ONE, "The same verdict where nothing is shared.", sharing="own", beta=0.5,
              steps=STEPS),
        judge("A circle", CIRCLE, "Verdicts that cancel: nothing moves.", sharing="own", beta=0.5, steps=STEPS),
    ],
    height=900,
)  # fmt: skip
def dpo(wins: str, beta: float, steps: int, sharing: str) -> tuple[Any, ...]:
    pairs = preferences.from_trail(wins)
    run = dpo_of(pairs, sharing)
    path, losses = np.exp(run.log_policy[:, leash(beta)]), run.losses[:, leash(beta)]
    start, now = small.REFERENCE, path[steps]
    reward = preferences.fit_rewards(pairs, len(small.NAMES), STEPS).path[steps]
    detour = engine.kl_regularised_policy(small.REFERENCE, reward, beta)
    apart = float(np.max(np.abs(now - detour)))
    margins = run.margins[steps, leash(beta)]
    picture = stack(
        pair_chips(pairs),
        policy_table(
            {"base model": start, f"after {many(steps, 'step')} of DPO": now, "by way of a reward model": detour},
            "How often each answer is given",
        ),
        row(
            curve(
                [(name, np.arange(STEPS + 1), path[:, i]) for i, name in enumerate(small.NAMES)],
                title="Probabilities, step by step", x_label="step", y_label="probability",
                tensors=["q", "k", "v", "grad", "ffn"], marker=(steps, float(now[order_of(now)[0]])),
            ),
            table(
                ["chosen", "over", "margin", "chosen: before", "now"],
                [[small.NAMES[w], small.NAMES[lost], signed_text(margins[i], 3), {"share": float(start[w])},
                  {"share": float(now[w])}] for i, (w, lost) in enumerate(pairs)],
                title="Your pairs: margin of the implicit rewards",
            ),
        ),
        readouts([("loss", f"{losses[steps]:.4f}"),
                  ("pairs with a positive margin", f"{int(np.sum(margins > 0))} of {len(pairs)}"),
                  ("largest difference of the two ways", f"{apart:.1e}")]),
    )  # fmt: skip
    positive = int(np.sum(margins > 0))
    fell = sorted({w for w, _ in pairs if now[w] < start[w] - 1e-9})
    risen = order_of(now - start)[0]
    sentence = (
        "No verdict yet: there is nothing to learn from. Click a chip."
        if not pairs
        else f"After {many(steps, 'step')}, {positive} of {many(len(pairs), 'margin')} "
        f"{'is' if positive == 1 else 'are'} positive, and the policy mostly says "
        f"{{{{answer:{order_of(now)[0]}|“{small.NAMES[order_of(now)[0]]}”}}}} "
        f"({share(float(now[order_of(now)[0]]))}). "
        + (
            "A reward model without a pull, and the leash, give the same policy to the last digits: it is one "
            "computation, written in two ways."
            if sharing == "own"
            else "So far the two ways are at the same place."
            if apart < 1e-9
            else "The two ways part here: with shared weights, pushing one answer moves the others, too."
        )
    )
    if pairs and fell:
        sentence += (
            f" Though chosen in some pair, {listed([small.NAMES[i] for i in fell])} lost probability; "
            f"“{small.NAMES[risen]}” gained most."
        )
    won, lost = pairs[0] if pairs else (0, 1)
    gains = [float(np.log(now[i]) - np.log(start[i])) for i in (won, lost)]
    formula = (
        rf"\text{{margin}} = \beta \left(\log \frac{{\logits{{\pi}}_w}}{{\logits{{\pi}}_{{0,w}}}} - "
        rf"\log \frac{{\logits{{\pi}}_l}}{{\logits{{\pi}}_{{0,l}}}}\right) = {number(beta, 3)} \cdot "
        rf"({number(gains[0], 4)} {signed(-gains[1], 4)}) = {number(beta * (gains[0] - gains[1]), 4)}"
    )
    return picture, sentence, formula, {
        "policy": now, "detour": detour, "margins": margins, "losses": losses,
    }  # fmt: skip


# --- a reward that can be checked ------------------------------------------------------------------------------------

SHOWN_GROUPS = 6


@chapter.lab(
    "grpo",
    title="Learn sums from right and wrong",
    controls=[
        Slider("round", "Round", grpo.ROUNDS, 0, grpo.ROUNDS),
        Choice("start", "The policy starts", "half", dict(grpo.STARTS)),
        Choice("size", "Answers in a group", "8", {str(n): str(n) for n in (2, 4, 8, 16)}),
        Choice("check", "Rewarded if", "exact", dict(grpo.CHECKS)),
        Choice("beta", "β of the KL term", "0.04", {"0": "0", "0.04": "0.04", "0.4": "0.4", "2": "2"}),
        Choice("seed", "Seed", "0", {str(n): str(n) for n in range(8)}),
    ],
    runs=[grpo.reinforce, engine.grpo_loss, engine.group_advantages, engine.clipped_gain, grpo.check],
    snippet="""
        from engine.grpo import kept_run

        run = kept_run({start!r}, {check!r}, {size}, {beta}, {seed})
        accuracy = [moment.accuracy for moment in run]
        silent = [moment.silent for moment in run]
        print(accuracy[0], accuracy[-1])
    """,
    provenance="A network of chapter 4's kind, trained live; every draw from the seed",
    presets=[
        Preset("Half taught", {"start": "half", "check": "exact", "size": "8", "beta": "0.04", "round": 200},
               "It knows a little."),
        Preset("The first groups", {"start": "half", "check": "exact", "size": "8", "beta": "0.04", "round": 0},
               "Eight answers each. What is above its group's mean?"),
        Preset("Nobody is ever right", {"start": "wrong", "check": "exact", "size": "4", "beta": "0.04", "round": 40},
               "Groups that fail altogether say nothing."),
        Preset("A lazy check", {"start": "half", "check": "parity", "size": "8", "beta": "0.04", "round": 200},
               "Rewarded for odd or even alone: it learns that, and what else?"),
        Preset("A tight leash", {"start": "half", "check": "exact", "size": "8", "beta": "2", "round": 200},
               "The KL term holds it near the half-taught start."),
    ],
    height=700,
)  # fmt: skip
def grpo_loop(round: int, start: str, size: str, check: str, beta: str, seed: str) -> tuple[Any, ...]:
    run = grpo.kept_run(start, check, int(size), float(beta), int(seed))
    now, times = run[round], [moment.round for moment in run]
    groups = now.groups
    picture = stack(
        row(
            curve(
                [("right, practised questions", times, [m.accuracy for m in run]),
                 ("right, held-out questions", times, [m.held_out for m in run]),
                 *([("passes the check", times, [m.reward for m in run])] if check != "exact" else [])],
                title="How good its answers are", x_label="round", y_label="probability",
                tensors=["logits", "k", "attn"], marker=(round, now.accuracy),
            ),
            curve(
                [("groups without a signal", times, smoothed([m.silent for m in run])),
                 ("KL from the start, nats", times, [m.divergence for m in run])],
                title="What is left to learn from (mean of 9 rounds), and how far it has moved", x_label="round",
                y_label="share, nats", tensors=["grad", "resid"],
            ),
        ),
        table(
            ["asked", "drawn answers", "rewards", "mean", "advantages"],
            [[f"{a} + {b} = ?", " ".join(map(str, answers)), " ".join(f"{r:.0f}" for r in reward),
              f"{np.mean(reward):.2f}",
              "all equal: no signal" if silent else " ".join(signed_text(x, 1) for x in advantage)]
             for (a, b), answers, reward, advantage, silent in groups.rows(SHOWN_GROUPS)],
            title=f"The first {SHOWN_GROUPS} of the {len(groups.asked)} groups drawn in round {round}",
        ),
    )  # fmt: skip
    wasted = int(np.sum(groups.silent))
    failed = int(np.sum(np.max(groups.rewards, axis=1) == 0))
    sentence = (
        f"After {many(round, 'round')}, the right sum has {share(now.accuracy)} on the practised questions (at the "
        f"start: {share(run[0].accuracy)}) and {share(now.held_out)} on the held-out ones (at the start: "
        f"{share(run[0].held_out)}). Silent groups in this round: {wasted} of {len(groups.asked)}, {failed} of them "
        "because every answer failed."
    )
    if check != "exact":
        sentence += f" The check is passed {share(now.reward)} of the time: that is what was rewarded."
    place = int(np.argmin(groups.silent)) if not np.all(groups.silent) else 0
    reward = groups.rewards[place]
    mean, spread = float(np.mean(reward)), float(np.std(reward))
    formula = (
        r"A_i = \frac{\q{r}_i - \text{mean}}{\text{std}}: \quad "
        + (
            rf"\frac{{{number(float(reward[0]), 3)} {signed(-mean, 3)}}}{{{number(spread, 3)}}} = "
            rf"{number(float(groups.advantages[place][0]), 3)} \;\text{{ for the first answer to }}\; "
            if spread > 0
            else r"0 \;\text{ for every answer, for example to }\; "
        )
        + rf"{groups.asked[place][0]} + {groups.asked[place][1]}"
    )
    return picture, sentence, formula, {
        "accuracy": [m.accuracy for m in run], "held_out": [m.held_out for m in run],
        "silent": [m.silent for m in run], "divergence": [m.divergence for m in run],
        "answers": groups.answers, "advantages": groups.advantages,
    }  # fmt: skip


# --- a teacher -------------------------------------------------------------------------------------------------------

LEARNT = 200


@chapter.lab(
    "teacher",
    title="The right word, or all that the teacher thinks",
    controls=[
        Choice("temperature", "Temperature", "3", {t: t for t in ("1", "2", "3", "5", "10")}),
        Slider("steps", "Steps of gradient descent", 60, 0, LEARNT),
    ],
    runs=[engine.distillation_loss, distillation.learn],
    snippet="""
        from engine.distillation import learn
        from engine.sampling import softmax

        soft = softmax(learn(True, float({temperature!r})).path[{steps}])
        hard = softmax(learn(False, 1.0).path[{steps}])
        print(soft.round(4), hard.round(4), sep="\\n")
    """,
    provenance="A teacher of seven logits, set by hand; two students trained live",
    presets=[
        Preset("T = 1", {"temperature": "1", "steps": 60}, "The teacher as it is: the moon hardly counts."),
        Preset("T = 5", {"temperature": "5", "steps": 60}, "Softened: even “idea” has something to say."),
        Preset("To the end", {"temperature": "3", "steps": 200}, "Which student still grows more certain?"),
    ],
    height=480,
)
def teacher(temperature: str, steps: int) -> tuple[Any, ...]:
    warmth = float(temperature)
    runs = distillation.learn(True, warmth), distillation.learn(False, 1.0)
    soft, hard = (softmax(run.path[steps]) for run in runs)
    target, plain = softmax(distillation.TEACHER / warmth), softmax(distillation.TEACHER)
    off = [float(engine.kl_divergence(plain, student)) for student in (soft, hard)]
    picture = stack(
        policy_table(
            {"the teacher": plain, f"softened to T = {temperature}": target, "its student": soft,
             "the right word's student": hard},
            f"{distillation.PROMPT} …", distillation.WORDS,
        ),
        curve(
            [("the teacher's student", np.arange(LEARNT + 1), distances(runs[0])),
             ("the right word's student", np.arange(LEARNT + 1), distances(runs[1]))],
            title="How far each is from what the teacher thinks (T = 1)", x_label="step", y_label="KL, nats",
            tensors=["attn", "grad"], marker=(steps, off[0]),
        ),
    )  # fmt: skip
    sentence = (
        f"“{distillation.PROMPT} …” After {many(steps, 'step')} the teacher's student gives “chair” "
        f"{share(float(soft[1]))} and “idea” {share(float(soft[-1]))}; the right word's student gives every word but "
        f"“sofa” the same {share(float(hard[1]))}. From what the teacher thinks the one is {nats(off[0])} away, "
        f"the other {nats(off[1])}."
    )
    formula = (
        rf"\text{{loss}} = T^2 \cdot \mathrm{{KL}}\left(\attn{{p}}_T \,\|\, \logits{{q}}_T\right) = "
        rf"{number(warmth**2, 3)} "
        rf"\cdot {number(float(runs[0].losses[steps]) / warmth**2, 3)} = {number(float(runs[0].losses[steps]), 3)}"
    )
    return picture, sentence, formula, {"soft": soft, "hard": hard, "target": target}


def nats(distance: float) -> str:
    """A distance in a sentence; the smallest are nobody's concern."""
    return "less than 0.0001 nats" if distance < 0.0001 else f"{distance:.2g} nats"


def distances(run: small.Descent) -> list[float]:
    plain = softmax(distillation.TEACHER)
    return [float(engine.kl_divergence(plain, student)) for student in softmax(run.path)]


PAGE = (Path(__file__).parent.parent / "data" / "one_page.txt").read_text("utf-8")
TARGETS = {"hard": "the tokens that came", "soft": "the teacher's probabilities", "both": "both, half and half"}
SOFTNESS = {"hard": 0.0, "soft": 1.0, "both": 0.5}


@chapter.lab(
    "student",
    title="SmolLM2 as the teacher of a single table",
    controls=[
        Choice("targets", "Learns from", "soft", TARGETS),
        Choice("temperature", "Temperature", "2", {"1": "1", "2": "2", "4": "4"}),
        Text("text", "Text (the first 240 tokens)", PAGE, limit=2500, rows=4),
    ],
    runs=[distillation.lessons, distillation.study, engine.distillation_loss],
    snippet="""
        from engine.distillation import lessons, study
        from engine.model import load
        from engine.tokenization import encode

        given = lessons(load(), encode({text!r}, "smollm2")[:240])
        share = {{"hard": 0.0, "soft": 1.0, "both": 0.5}}[{targets!r}]
        found = study(given, share, float({temperature!r}))
        loss, distance = found.loss, found.distance
        print(loss.min(), distance.min())
    """,
    provenance=REAL + " as the teacher; the student trained live",
    presets=[
        Preset("Right answers", {"targets": "hard"}, "Each token came once, and says nothing of the others."),
        Preset(
            "The teacher", {"targets": "soft", "temperature": "2"}, "The same tokens, and all that might have come."
        ),
        Preset("Both", {"targets": "both", "temperature": "2"}, "What is usually done."),
    ],
    real=True,
    height=(480, 880),
)
def student(sentence: str, targets: str, temperature: str, text: str) -> tuple[Any, ...]:
    ids = encode(text, ENCODING)
    given = distillation.lessons(the_model(), ids[:240])
    runs = {
        name: distillation.study(given, SOFTNESS[name], float(temperature)) for name in dict.fromkeys(("hard", targets))
    }
    run, hard = runs[targets], runs["hard"]
    times = np.arange(len(run.loss))
    picture = stack(
        row(
            curve(
                [(TARGETS[name], times, one.loss) for name, one in runs.items()],
                title="Surprisal of new text", x_label="step", y_label="nats a token", tensors=["grad", "attn"],
            ),
            curve(
                [(TARGETS[name], times, one.distance) for name, one in runs.items()],
                title="Distance from the teacher on new text", x_label="step", y_label="KL, nats",
                tensors=["grad", "attn"],
            ),
        ),
        readouts([("lessons", f"{given.split}"), ("new tokens", f"{len(given.right) - given.split}"),
                  ("kinds of token", f"{len(given.kinds)} and “any other”"),
                  ("the student's numbers", f"{run.table.size:,}")]),
    )  # fmt: skip
    note = f"Your text has {len(ids)} tokens; the first 240 are used. " if len(ids) > 240 else ""
    best, end = float(np.min(run.loss)), float(run.loss[-1])
    sentence = (
        f"{note}After {given.split} lessons from {TARGETS[targets]}, the student's best surprisal on the rest of the "
    )
    sentence += f"text is {best:.2f} nats a token, and at the end {end:.2f}."
    if targets != "hard":
        sentence += (
            f" The one that saw only the tokens that came reached {float(np.min(hard.loss)):.2f} and ended at "
            f"{float(hard.loss[-1]):.2f}."
        )
    formula = (
        rf"\text{{surprisal: }} {number(float(run.loss[0]), 3)} \to {number(best, 3)}, \qquad "
        rf"\mathrm{{KL}}(\attn{{\text{{teacher}}}} \,\|\, \logits{{\text{{student}}}}) = "
        rf"{number(float(run.distance[0]), 3)} \to {number(float(np.min(run.distance)), 3)}"
    )
    return picture, sentence, formula, {"loss": run.loss, "distance": run.distance}


# --- fewer parameters ------------------------------------------------------------------------------------------------

FIT_STEPS = 120


@chapter.lab(
    "rank",
    title="A change in two thin matrices",
    controls=[
        Slider("rank", "Rank r", 2, 1, low_rank.SIZE),
        Choice("kind", "The wanted change has", "few", dict(low_rank.CHANGES)),
        Slider("steps", "Steps of training", FIT_STEPS, 0, FIT_STEPS),
        Slider("seed", "Seed", 0, 0, 20),
    ],
    runs=[engine.lora, low_rank.fit, low_rank.best_errors],
    snippet="""
        from engine.low_rank import fit

        found = fit({kind!r}, {rank}, 120, {seed})
        error, change = found.errors[{steps}], found.changes[{steps}]
        print(error, found.best[{rank}])
    """,
    provenance="A matrix and a wanted change drawn from the seed; a and b trained live",
    presets=[
        Preset("Before the first step", {"rank": 2, "steps": 0}, "b = 0: the model is exactly what it was."),
        Preset("Rank 3", {"rank": 3, "kind": "few", "steps": 120}, "Three directions wanted, three to give."),
        Preset("Every direction alike", {"rank": 3, "kind": "all", "steps": 120}, "Where low rank does not help."),
        Preset("Full rank", {"rank": 20, "kind": "all", "steps": 120}, "As free as training the matrix itself."),
    ],
    height=560,
)
def rank(rank: int, kind: str, steps: int, seed: int) -> tuple[Any, ...]:
    found = low_rank.fit(kind, rank, FIT_STEPS, seed)
    _, change = low_rank.wanted(kind, seed)
    error, least = float(found.errors[steps]), float(found.best[rank])
    now, limit = found.changes[steps], float(np.max(np.abs(change)))
    picture = stack(
        row(
            matrix(change, "The wanted change", "ffn", "wanted", limit=limit, cell=14),
            sign("≈"),
            matrix(now, f"a times b, of rank {rank}", "q", "given", limit=limit, cell=14),
        ),
        row(
            curve(
                [("trained", np.arange(FIT_STEPS + 1), found.errors),
                 ("the least possible", [0, FIT_STEPS], [least, least])],
                title="What is missing, as a share of the change", x_label="step", y_label="error",
                tensors=["grad", "k"], marker=(steps, error),
            ),
            curve(
                [("the least possible", np.arange(len(found.best)), found.best)],
                title="… at each rank", x_label="rank", y_label="error", tensors=["k"], points=True,
                marker=(rank, least),
            ),
        ),
    )  # fmt: skip
    numbers = 2 * rank * low_rank.SIZE
    sentence = (
        (
            "b is still 0, so nothing has changed: the error is 1, all of the change."
            if steps == 0
            else f"With rank {rank}, {many(steps, 'step')} leave{'s' if steps == 1 else ''} {error:.1%} of the change "
            f"missing; no change of that rank can leave less than {least:.1%}."
        )
        + f" The two thin matrices hold {numbers} numbers, the matrix itself {low_rank.SIZE**2}"
        + (": no fewer. It pays only for low ranks." if numbers >= low_rank.SIZE**2 else ".")
    )
    formula = (
        rf"\ffn{{W}}_{{\text{{new}}}} = \ffn{{W}} + \frac{{\alpha}}{{r}} \, \q{{a}} \, \k{{b}}, \qquad "
        rf"2 \cdot {low_rank.SIZE} \cdot {rank} = {numbers}, \qquad \text{{missing}} = {number(error, 4)}"
    )
    return picture, sentence, formula, {"error": np.array(error), "change": now, "best": found.best}


@chapter.lab(
    "size",
    title="What there is to train",
    controls=[
        Choice("model", "Model", "Llama 3.1 8B", {name: name for name in ("SmolLM2-135M", "Llama 3.1 8B")}),
        Slider("rank", "Rank r", 16, 1, 256),
        Choice("parts", "Adapters beside", "all", {"qv": "queries and values", "attention": "all of attention",
                                                   "all": "attention and feed-forward"}),
    ],
    runs=[low_rank.adapters],
    snippet="""
        from engine.ledger import CONFIGS
        from engine.low_rank import adapters

        found = adapters(CONFIGS[{model!r}], {rank}, {parts!r})
        trained = found.trained
        print(trained, trained / found.total)
    """,
    provenance="Counted from the models' published dimensions",
    presets=[
        Preset("As in the paper", {"model": "Llama 3.1 8B", "rank": 8, "parts": "qv"},
               "Queries and values were enough there."),
        Preset("Usual today", {"model": "Llama 3.1 8B", "rank": 16, "parts": "all"}, "A small rank, everywhere."),
        Preset("Target: one per cent", {"model": "Llama 3.1 8B", "rank": 8, "parts": "all"},
               "Find the rank at which 1 % is trained."),
    ],
    height=420,
)  # fmt: skip
def size(model: str, rank: int, parts: str) -> tuple[Any, ...]:
    found = low_rank.adapters(CONFIGS[model], rank, parts)
    mine, whole = found.memory
    picture = stack(
        table(
            ["matrix", "shape", "in the model", "adapter: in·r + r·out", "in all"],
            [[part, f"{a} × {b}", copies, f"{(a + b) * rank:,}", f"{count:,}"]
             for part, (a, b), copies, count in found.rows],
            title=f"{model}, rank {rank}",
        ),
        bars(
            ["adapters alone", "the whole model"], [mine / 1e9, whole / 1e9],
            title="Weights, gradients and Adam's two means in float32", tensor="grad", unit=" GB",
            keys=["memory:mine", "memory:whole"],
        ),
        readouts([("trained", f"{found.trained:,}"), ("of", f"{found.total:,}"),
                  ("share", f"{found.trained / found.total:.3%}"),
                  ("as a file in 16 bits", f"{2 * found.trained / 1e6:,.1f} MB")]),
    )  # fmt: skip
    sentence = (
        f"{found.trained:,} numbers are trained, {found.trained / found.total:.2%} of {model}. What Adam has to hold "
        f"shrinks "
        f"from {{{{memory:whole|{whole / 1e9:.2f} GB}}}} to {{{{memory:mine|{mine / 1e9:.3g} GB}}}}; the frozen "
        f"weights must "
        "still be read."
    )
    part, (a, b), copies, count = found.rows[0]
    formula = rf"({a} + {b}) \cdot {rank} \cdot {copies} = {count} \quad \text{{({part})}}"
    return picture, sentence, formula, {"trained": np.array(found.trained), "total": np.array(found.total)}


# --- a real model learns one answer ----------------------------------------------------------------------------------

PIRATE = "Arr, matey! The air be throwing the blue light about, so blue be all ye see."
OTHER = "Why is grass green?"
LESSON_TOKENS = 96


@chapter.lab(
    "lora",
    title="Teach SmolLM2 one answer",
    controls=[
        Text("question", "Question", SKY, limit=120, rows=1),
        Text("answer", "The answer to learn", PIRATE, limit=200, rows=2),
        Text("other", "Another question", OTHER, limit=120, rows=1),
        Slider("rank", "Rank r", 4, 1, 32),
        Choice("parts", "Adapters beside", "attention", {"qv": "queries and values", "attention": "all of attention",
                                                         "ffn": "the feed-forward network"}),
        Slider("steps", "Steps", 12, 2, 30),
    ],
    runs=[real_lora.teach, real_lora.adapted, real_lora.fresh_adapters, engine.lora, engine.masked_loss],
    snippet="""
        from engine.chat_study import dialogue
        from engine.model import load
        from engine.real_lora import fresh_adapters, teach

        model = load()
        ids, counts = dialogue({question!r}, {answer!r}, 96)
        lessons = list(teach(model, ids, counts, fresh_adapters(model, {rank}, {parts!r}), {steps}))
        losses = [lesson.loss for lesson in lessons]
        print(losses[0], "->", losses[-1])
    """,
    provenance=REAL + ", frozen; adapters beside its last 6 blocks trained live",
    presets=[
        Preset("A pirate", {"question": SKY, "answer": PIRATE, "other": OTHER, "steps": 12}, "Only one example."),
        Preset("Too many steps", {"question": SKY, "answer": PIRATE, "other": OTHER, "steps": 30},
               "It knows the answer by heart. What has it done to the other question?"),
        Preset("A refusal", {"question": SKY, "answer": "I am sorry, but I cannot talk about the sky.",
                             "other": "Name a fruit.", "steps": 20}, "Does it now refuse everything?"),
    ],
    real=True,
    height=120,
    long=Long(seconds=180, takes="about 20 seconds",
              quick={"steps": 2, "rank": 1, "parts": "qv", "answer": "Arr!", "question": "Why?", "other": "No?"}),
)  # fmt: skip
def teach(sentence: str, question: str, answer: str, other: str, rank: int, parts: str, steps: int) -> Steps:
    if not (question.strip() and answer.strip() and other.strip()):
        raise ReaderError("Type a question, the answer that is to be learned, and another question.")
    if other.strip() == question.strip():
        raise ReaderError("The other question must differ from the one whose answer is to be learned.")
    model = the_model()
    ids, counts = chat_study.dialogue(question, answer, LESSON_TOKENS)
    if not np.any(counts):
        raise ReaderError("The question is too long: there is no room left for its answer.")
    lessons: list[real_lora.Lesson] = []
    for lesson in real_lora.teach(model, ids, counts, real_lora.fresh_adapters(model, rank, parts), steps):
        lessons.append(lesson)
        yield Progress(0.7 * lesson.step / steps, f"Step {lesson.step}", (lesson_curve(lessons), "It learns."))
    tuned = real_lora.adapted(model, lessons[-1].adapters)
    said: dict[str, list[int]] = {}
    for number_, (name, speaker, asked) in enumerate(
        (
            ("before", model, question),
            ("after", tuned, question),
            ("other before", model, other),
            ("other after", tuned, other),
        )
    ):
        said[name] = [
            step.id for step in speaker.generate(chat_study.asked_in_chat(asked), SAMPLE) if step.id not in END_IDS
        ]
        yield Progress(0.7 + 0.3 * (number_ + 1) / 4, "Asking", (lesson_curve(lessons), "Now it is asked."))
    note = f"The dialogue is long: its first {LESSON_TOKENS} tokens are used. " if len(ids) == LESSON_TOKENS else ""
    return taught(lessons, said, rank, note)


# --- numbers of the prose --------------------------------------------------------------------------------------------


@chapter.number
def base_rambles() -> str:
    return share(float(small.REFERENCE[1]))


@chapter.number
def peak_beta() -> str:
    return f"{wrong('length').betas[wrong('length').best]:.2g}"


@chapter.number
def peak_true() -> str:
    return signed_text(float(np.max(wrong("length").true)))


@lru_cache(maxsize=4)
def wrong(proxy: str) -> pressure.Pressure:
    by = np.array([pressure.PROXIES[proxy](one.text) for one in small.ANSWERS])
    return pressure.under_pressure(small.REFERENCE, by, small.QUALITY, BETAS)


@lru_cache(maxsize=1)
def displaced() -> Any:
    """Log-probabilities (times, answers) of the one pair's run with shared weights, at β = 0.5."""
    return dpo_of(ONE, "traits").log_policy[:, leash(0.5)]


@chapter.number
def crowds() -> int:
    return CROWDS


def favourite(errors: str) -> str:
    """What the judge's favourite is worth, with half of the proxy's variance error: mean over the lab's seeds."""
    drawn = [pressure.crowd(errors, 0.5, seed) for seed in range(CROWDS)]
    return signed_text(float(np.mean([true[np.argmax(proxy)] for true, proxy in drawn])))


@chapter.number
def favourite_normal() -> str:
    return favourite("normal")


@chapter.number
def favourite_heavy() -> str:
    return favourite("heavy")


@chapter.number
def helpful_before() -> str:
    return share(float(small.REFERENCE[0]))


@chapter.number
def helpful_after() -> str:
    return share(float(np.exp(displaced()[-1, 0])))


@chapter.number
def winner_after() -> str:
    return small.NAMES[order_of(displaced()[-1])[0]]


@chapter.number
def practised() -> int:
    return grpo.DIGITS**2 - grpo.HELD_OUT


@chapter.number
def silent_half() -> str:
    return share(grpo.silence(0.5, 8))


@chapter.number
def silent_rare() -> str:
    return share(grpo.silence(0.01, 8))


@chapter.number
def llama_adapters() -> str:
    return f"{low_rank.adapters(CONFIGS['Llama 3.1 8B'], 16, 'all').trained:,}"


@chapter.number
def llama_share() -> str:
    found = low_rank.adapters(CONFIGS["Llama 3.1 8B"], 16, "all")
    return f"{found.trained / found.total:.2%}"


# --- check yourself --------------------------------------------------------------------------------------------------


@chapter.answer
def circle_reward() -> float:
    """How often helpful should win against rambling, after the circle."""
    now = preferences.fit_rewards(CIRCLE, len(small.NAMES), STEPS, pull=PULL).path[-1]
    return 100 * float(preferences.win_probabilities(now)[0, 1])


@chapter.answer
def chosen_probability() -> str:
    """What becomes of the chosen answer of the one pair, with shared weights."""
    path = displaced()
    return "falls" if path[-1, 0] < path[0, 0] - 1e-9 else "rises"


@chapter.answer
def silent_share() -> float:
    """Of groups of 8, how many per cent have no signal where one answer in a hundred is right."""
    return 100 * grpo.silence(0.01, 8)


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
