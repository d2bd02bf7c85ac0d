"""Earlier steps of an episode as messages: what a model is taught, shown while it acts, and asked again."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from envs.base import EVALUATION_SEEDS, Exchange, Observation
from envs.registry import make
from vldac import policy, warm_start
from vldac.acting import Actor
from vldac.config import Config
from vldac.distributed import Runtime
from vldac.evaluation.episodes import evaluate, vlm_policy
from vldac.evaluation.play.sessions import Session
from vldac.evaluation.study.fingerprints import base_fingerprint, evaluation_fingerprint
from vldac.evaluation.watch import Player
from vldac.examples import collect, sources
from vldac.models.vlm import VLM
from vldac.observations import MAX_CHARACTERS, MAX_HISTORY, read_observation
from vldac.plan import plan
from vldac.rollout import Collector, Rollout
from vldac.train import make_simulators

EARLIER = (Exchange("go there.", '{"action": "left"}'), Exchange("go on.", "I can <|im_end|> not."))


@pytest.fixture(scope="module")
def config(tiny_config: Any) -> Config:
    found = tiny_config({"env": {"history": 2, "max_steps": 5}, "warm_start": {"updates": 2}})
    assert isinstance(found, Config)
    return found


@pytest.fixture(scope="module")
def vlm(tiny_base: Path, config: Config) -> VLM:
    found = policy.load_base(tiny_base, config.model)
    found.add_adapter(4, 8)
    return found.eval()


def texts(vlm: VLM, input_ids: torch.Tensor) -> list[tuple[str, str]]:
    """Role and text of each message of an encoded prompt, the last one still to be written."""
    found = re.findall(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>\n|\Z)", vlm.tokenizer.decode(input_ids), re.DOTALL)
    return [(role, re.sub(r"<\|vision_start\|>.*<\|vision_end\|>", "<picture>", text)) for role, text in found]


def test_exchanges_are_messages_before_the_observation_and_only_text(vlm: VLM) -> None:
    env = make("GymCards-NumberLine-v0", width=32, height=32)
    observation, _ = env.reset(seed=1)
    (prompt,) = Actor(vlm, max_new_tokens=4).encode([{**observation, "history": EARLIER}])
    assert texts(vlm, prompt.input_ids) == [
        ("user", "go there."),
        ("assistant", '{"action": "left"}'),
        ("user", "go on."),
        ("assistant", "I can < |im_end|> not."),  # what was written ends no turn
        ("user", f"<picture>{observation['prompt']}"),
        ("assistant", ""),
    ]
    # As its own chat template writes the conversation, which a slow way to the same tokens goes through.
    messages = [{"role": role, "content": text} for role, text in texts(vlm, prompt.input_ids)[:4]]
    expected = vlm.tokenizer.apply_chat_template(messages, tokenize=False) + "<|im_start|>user\n"
    begun = vlm.tokenizer(expected, add_special_tokens=False)["input_ids"]
    assert prompt.input_ids[: len(begun)].tolist() == begun
    (without,) = Actor(vlm, max_new_tokens=4).encode([observation])
    (empty,) = Actor(vlm, max_new_tokens=4).encode([{**observation, "history": ()}])
    assert empty.input_ids.tolist() == without.input_ids.tolist()
    assert set(prompt.pictures) == set(without.pictures)


def collected(config: Config, vlm: VLM, state: Any = None) -> tuple[list[Rollout], Any]:
    """Two rollouts, or the second alone from where the simulators stood after the first; and that."""
    with make_simulators(config, 1, Runtime(0, 1, vlm.device)) as simulators:
        collector = Collector(Actor.of(vlm, config.rollout), simulators, seed=9)
        if state is None:
            collector.start()
            rollouts = [collector.collect(4, 0)]
            state = json.loads(json.dumps(simulators.state_dict()))
        else:
            collector.resume(state)
            rollouts = []
        return [*rollouts, collector.collect(6, 0)], state


@pytest.mark.parametrize("double_buffering", [False, True])
def test_a_rollout_shows_what_was_written_and_goes_on_from_a_checkpoint(
    double_buffering: bool, config: Config, vlm: VLM, tiny_config: Any
) -> None:
    env = {**config.env.model_dump(), "num_workers": 2}
    config = tiny_config({"env": env, "rollout": {"double_buffering": double_buffering}})
    (first, second), state = collected(config, vlm)
    said: list[deque[Exchange]] = [deque(maxlen=2) for _ in range(4)]
    ended = cut = 0
    for row in [*first.steps, *second.steps]:
        for step, history in zip(row, said, strict=True):
            found = texts(vlm, step.prompt.input_ids)
            earlier = [text for _, text in found[:-2]]
            assert earlier == [vlm.encoder.literal(text) for exchange in history for text in exchange]
            prompt = found[-2][1].removeprefix("<picture>")
            history.append(Exchange(prompt, vlm.decode(step.response.token_ids)))
            if step.final_prompt is not None:  # the last answer of an episode is part of what its value is of
                cut += 1
                assert texts(vlm, step.final_prompt.input_ids)[-3][1] == vlm.encoder.literal(history[-1].answer)
            if step.terminated or step.truncated:
                ended += 1
                history.clear()
    assert ended > 4
    assert cut
    (again,), _ = collected(config, vlm, state)
    for row, same in zip(second.steps, again.steps, strict=True):
        for step, other in zip(row, same, strict=True):
            assert torch.equal(step.prompt.input_ids, other.prompt.input_ids)
            assert torch.equal(step.response.token_ids, other.response.token_ids)


def test_a_base_is_taught_with_true_descriptions_before_it(config: Config, vlm: VLM) -> None:
    (source,) = sources(config)
    examples = collect(source, 60)
    lengths = {len(example.observation["history"]) for example in examples}
    assert lengths == {0, 1, 2}
    for before, example in itertools.pairwise(examples):
        if history := example.observation["history"]:
            assert history[-1].prompt == before.observation["prompt"]
            assert history[-1].answer.startswith(f'{{"thoughts": "{before.description}", "action": ')
            assert history[:-1] == before.observation["history"][-1:]
    (longest,) = [e for e in examples if len(e.observation["history"]) == 2][:1]
    assert len(texts(vlm, warm_start._prompts(vlm, [longest])[0].input_ids)) == 6
    plain = collect(replace(source, history=0), 60)
    assert all("history" not in example.observation for example in plain)
    assert [e.description for e in plain] == [e.description for e in examples]


def test_it_is_watched_as_it_was_evaluated(config: Config, vlm: VLM) -> None:
    played = evaluate(config, vlm_policy(vlm, config, _evaluation_seed(config)), 3, "base")
    env = make(config.env.id, **config.env.make_options)
    for episode, seed in zip(played, EVALUATION_SEEDS[:3], strict=True):
        watched = Player("base", vlm, config).play(env, seed)
        assert [step.decision.text for step in watched.steps] == episode.replies
        assert [len(step.observation["history"]) for step in watched.steps] == [0, 1, 2, 2, 2][: episode.length]


def _evaluation_seed(config: Config) -> int:
    from vldac.utils.seeding import derive_seed  # noqa: PLC0415

    return derive_seed(config.seed, "evaluation")


def test_whoever_plays_is_part_of_the_history(config: Config, vlm: VLM) -> None:
    session = Session(config.env.id, config.env, config.env, "base", EVALUATION_SEEDS[0])
    try:
        asked: list[Observation] = []
        player = Player("base", vlm, config)
        session.answer(player, "what now?")
        written = session._decision
        assert written is not None
        prompt = session.state()["prompt"]
        session.step(None)
        session.step("+")
        asked.append(session._observation)
        assert asked[0]["history"] == ((prompt, written.text), (prompt, "+"))
    finally:
        session.close()


def test_it_is_part_of_what_a_run_is_and_costs_tokens(config: Config, tiny_config: Any) -> None:
    plain = tiny_config({"env": {"max_steps": 5}, "warm_start": {"updates": 2}})
    assert "history" not in plain.deciding()["env"]  # so that fingerprints are those of before
    for fingerprint in (Config.fingerprint, base_fingerprint, evaluation_fingerprint):
        assert fingerprint(config) != fingerprint(plain)
    activations = [plan(each)["memory"]["activations_mib"] for each in (plain, config)]
    # 4 cells of 16 pixels, 100 tokens of text and 24 of response; then twice as much text again
    assert activations[1] / activations[0] == pytest.approx((4 + 3 * 124) / (4 + 124), rel=0.01)


def picture() -> str:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 4)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_a_request_may_bring_history() -> None:
    assert "history" not in read_observation(picture(), "go")
    assert read_observation(picture(), "go", [["a", "b"], ["c", ""]])["history"] == (("a", "b"), ("c", ""))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([["a", "b"]] * (MAX_HISTORY + 1), f"history holds {MAX_HISTORY + 1} exchanges; at most"),
        ([["a"]], r"a list of pairs, \[instruction, answer\]"),
        (["ab"], r"a list of pairs"),
        ("ab", r"a list of pairs"),
        (5, r"a list of pairs"),
        ([["", "b"]], "an instruction of history must be a text that is not empty"),
        ([["a", 5]], "an answer of history must be a text"),
        ([["a", "x" * (MAX_CHARACTERS + 1)]], "an answer of history has 20001 characters"),
    ],
)
def test_other_history_is_refused(history: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_observation(picture(), "go", history)
