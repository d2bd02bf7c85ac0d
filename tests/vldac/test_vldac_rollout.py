from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from envs.vector import VectorStep
from vldac.acting import Actor
from vldac.models.vlm import Prompt, Response
from vldac.rollout import Collector, Rollout
from vldac.utils.seeding import derive_seed

VALID, FENCED, BROKEN = '{"action": "left"}', '```\n{"action": 2}\n```', '{"action": '


def shown(label: str) -> Any:
    return {"frames": np.zeros((1, 4, 4, 3), np.uint8), "prompt": label}


class ScriptedModel:
    """Answers with the texts it is given, in turn; a token id is a number of a text."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self.texts = [list(row) for row in texts]
        self.written: list[str] = []
        self.encoded: list[list[str]] = []
        self.seeds: list[list[int]] = []

    def encode(self, frames: Sequence[Any], prompts: Sequence[str]) -> list[Prompt]:
        assert len(frames) == len(prompts)
        self.encoded.append(list(prompts))
        # The label itself stands where pixels would, so that a test can tell prompts apart.
        return [Prompt(torch.tensor([0]), {"label": prompt}) for prompt in prompts]  # type: ignore[dict-item]

    def encode_frames(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        return list(prompts)

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int], **_options: Any) -> list[Response]:
        self.seeds.append(list(seeds))
        row = self.texts.pop(0)
        assert len(row) == len(prompts)
        self.written += row
        first = len(self.written) - len(row)
        return [Response(torch.tensor([first + i]), torch.tensor([-0.5])) for i in range(len(row))]

    end_id = -1
    exact = True

    def decode(self, token_ids: torch.Tensor) -> str:
        return self.written[int(token_ids)]


class ScriptedSimulators:
    """Gives the results it is given, in turn, and remembers what it was told."""

    def __init__(self, results: Sequence[VectorStep]) -> None:
        self.results = list(results)
        self.told: list[list[str | None]] = []
        self.episode_numbers, self.episode_lengths = [0, 0, 0], [0, 0, 0]
        self.begun: list[list[int]] = []

    def begin(self, numbers: Sequence[int]) -> list[Any]:
        self.begun.append(list(numbers))
        self.episode_numbers, self.episode_lengths = list(numbers), [0, 0, 0]
        return [shown(f"start {i} again") for i in range(3)]

    def reset(self) -> list[Any]:
        return [shown("start 0"), shown("start 1"), shown("start 2")]

    def step(self, actions: Sequence[str | None]) -> VectorStep:
        self.told.append(list(actions))
        result = self.results.pop(0)
        ended = result.terminated | result.truncated
        self.episode_numbers = [number + int(end) for number, end in zip(self.episode_numbers, ended, strict=True)]
        lengths = zip(self.episode_lengths, ended, strict=True)
        self.episode_lengths = [0 if end else length + 1 for length, end in lengths]
        return result

    def load_state_dict(self, state: dict[str, Any]) -> list[Any]:
        return [shown(f"restored {state['mark']}")] * 3


def result(
    rewards: Sequence[float],
    *,
    terminated: Sequence[int] = (),
    truncated: Sequence[int] = (),
    infos: dict[int, dict[str, Any]] | None = None,
    label: str = "next",
) -> VectorStep:
    ended = {*terminated, *truncated}
    return VectorStep(
        observations=[shown(f"{label} {i}") for i in range(3)],
        rewards=np.array(rewards),
        terminated=np.array([i in terminated for i in range(3)]),
        truncated=np.array([i in truncated for i in range(3)]),
        final_observations=[shown(f"final {i}") if i in ended else None for i in range(3)],
        infos=[{"invalid": False, **(infos or {}).get(i, {})} for i in range(3)],
    )


def collected(texts: Sequence[Sequence[str]], results: Sequence[VectorStep]) -> tuple[Rollout, ScriptedSimulators]:
    model, simulators = ScriptedModel(texts), ScriptedSimulators(results)
    collector = Collector(actor(model), simulators)
    collector.start()
    return collector.collect(len(results)), simulators


def actor(model: ScriptedModel) -> Actor:
    return Actor(model, max_new_tokens=4, engine=model)  # type: ignore[arg-type]  # as much of a VLM and of an engine as a rollout uses


def label(prompt: Prompt | None) -> Any:
    return None if prompt is None else prompt.pictures["label"]


def test_answers_reach_the_simulators_and_unreadable_ones_as_none() -> None:
    _, simulators = collected([[VALID, FENCED, BROKEN], [BROKEN, VALID, "left"]], [result([0, 0, 0])] * 2)
    assert simulators.told == [["left", "2", None], [None, "left", None]]


def test_the_penalty_stays_with_the_text_that_earned_it() -> None:
    rollout, _ = collected([[VALID, BROKEN, VALID]], [result([0.5, -1.0, 0.25], infos={1: {"invalid": True}})])
    assert [step.reward for step in rollout.steps[0]] == [0.5, -1.0, 0.25]
    assert [int(step.response.token_ids) for step in rollout.steps[0]] == [0, 1, 2]
    assert rollout.invalid == 1


def test_each_step_holds_what_was_shown_before_it_and_the_rollout_what_comes_after() -> None:
    rollout, _ = collected([[VALID] * 3] * 2, [result([0, 0, 0], label="a"), result([0, 0, 0], label="b")])
    assert [[label(step.prompt) for step in row] for row in rollout.steps] == [
        ["start 0", "start 1", "start 2"],
        ["a 0", "a 1", "a 2"],
    ]
    assert [label(prompt) for prompt in rollout.last_prompts] == ["b 0", "b 1", "b 2"]


@pytest.mark.parametrize(
    ("terminated", "truncated", "finals", "flags"),
    [
        ((), (), [None, None, None], [(False, False)] * 3),
        ((0,), (), [None, None, None], [(True, False), (False, False), (False, False)]),
        ((), (1, 2), [None, "final 1", "final 2"], [(False, False), (False, True), (False, True)]),
        ((0, 1), (1, 2), [None, None, "final 2"], [(True, False), (True, False), (False, True)]),
    ],
)
def test_only_an_episode_cut_by_its_time_limit_keeps_its_final_observation(
    terminated: tuple[int, ...], truncated: tuple[int, ...], finals: list[Any], flags: list[Any]
) -> None:
    rollout, _ = collected([[VALID] * 3], [result([0, 0, 0], terminated=terminated, truncated=truncated)])
    assert [label(step.final_prompt) for step in rollout.steps[0]] == finals
    assert [(step.terminated, step.truncated) for step in rollout.steps[0]] == flags


def test_a_step_says_whether_its_episode_was_lost() -> None:
    infos = {1: {"lost": True}}
    rollout, _ = collected([[VALID] * 3], [result([0, 0, 0], truncated=[0, 1], infos=infos)])
    assert [(step.truncated, step.lost) for step in rollout.steps[0]] == [(True, False), (True, True), (False, False)]


def test_each_step_says_which_episode_of_its_simulator_it_belongs_to() -> None:
    results = [result([0] * 3, terminated=(0,)), result([0] * 3, truncated=(0, 2)), result([0] * 3)]
    rollout, _ = collected([[VALID] * 3] * 3, results)
    assert [[step.episode for step in row] for row in rollout.steps] == [[0, 0, 0], [1, 0, 0], [2, 0, 1]]


def test_finished_episodes_are_counted_and_lost_ones_left_out() -> None:
    won = {"episode_return": 1.0, "episode_length": 3, "success": True, "lost": False}
    lost = {"episode_return": 0.0, "episode_length": 1, "success": False, "lost": True}
    rollout, _ = collected(
        [[VALID] * 3] * 2,
        [
            result([1, 0, 0], terminated=(0,), truncated=(1,), infos={0: won, 1: lost}),
            result([0, 0, 1], terminated=(2,), infos={2: won | {"episode_length": 2}}),
        ],
    )
    assert [episode["episode_length"] for episode in rollout.episodes] == [3, 2]
    assert rollout.lost == 1
    assert rollout.steps[0][1].final_prompt is not None  # a lost episode is bootstrapped like a cut one


def test_a_resumed_collector_goes_on_from_the_restored_observations() -> None:
    model, simulators = ScriptedModel([[VALID] * 3]), ScriptedSimulators([result([0, 0, 0])])
    collector = Collector(actor(model), simulators)
    collector.resume({"mark": "here"})
    assert label(collector.collect(1).steps[0][0].prompt) == "restored here"


def test_time_is_split_between_simulator_and_generation() -> None:
    rollout, _ = collected([[VALID] * 3], [result([0, 0, 0])])
    assert set(rollout.seconds) == {"simulator", "generation"}
    assert all(value >= 0 for value in rollout.seconds.values())


def test_a_response_is_drawn_by_its_simulator_its_episode_and_its_step() -> None:
    def seeds(first: int) -> list[list[int]]:
        model = ScriptedModel([[VALID] * 3] * 3)
        simulators = ScriptedSimulators([result([0, 0, 0], terminated=[1]), result([0] * 3), result([0] * 3)])
        collector = Collector(actor(model), simulators, seed=5, first=first)
        collector.start()
        collector.collect(3)
        return model.seeds

    turns = [[(0, 0, 0), (1, 0, 0), (2, 0, 0)], [(0, 0, 1), (1, 1, 0), (2, 0, 1)], [(0, 0, 2), (1, 1, 1), (2, 0, 2)]]
    assert seeds(0) == [[derive_seed(5, *turn) for turn in row] for row in turns]
    assert seeds(1)[0][0] == seeds(0)[0][1]  # the same simulator on another rank
    assert len({seed for row in seeds(0) for seed in row}) == 9


def test_rollouts_of_whole_episodes_begin_with_new_ones_of_one_number_in_each_group() -> None:
    model = ScriptedModel([[VALID] * 3] * 3)
    simulators = ScriptedSimulators([result([0, 0, 0], terminated=[1]), result([0] * 3), result([0] * 3)])
    collector = Collector(actor(model), simulators, group_size=3, whole_episodes=True)
    collector.start()
    first = collector.collect(2)
    assert simulators.begun == []  # they had just begun
    assert [[step.episode for step in row] for row in first.steps] == [[0, 0, 0], [0, 1, 0]]
    second = collector.collect(1)
    assert simulators.begun == [[2, 2, 2]]
    assert [label(step.prompt) for step in second.steps[0]] == ["start 0 again", "start 1 again", "start 2 again"]
