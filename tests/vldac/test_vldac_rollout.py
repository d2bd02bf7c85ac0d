from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.base import Observation
from envs.vector import VectorEnv, VectorStep
from vldac import policy
from vldac.acting import Actor
from vldac.config import Config
from vldac.distributed import Runtime
from vldac.models.vlm import VLM, Prompt, Response
from vldac.rollout import Collector, Rollout
from vldac.train import make_simulators
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
        self.log: list[str] = []

    def conversation(self, observation: Observation) -> str:
        return observation["prompt"]

    def encoder(self, prompts: Sequence[str], _pictures: Any) -> list[Prompt]:
        self.encoded.append(list(prompts))
        # The label itself stands where pixels would, so that a test can tell prompts apart.
        return [Prompt(torch.tensor([0]), {"label": prompt}) for prompt in prompts]  # type: ignore[dict-item]

    def encode_frames(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        return list(prompts)

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int], **_options: Any) -> list[Response]:
        self.seeds.append(list(seeds))
        self.log.append("answer")
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

    def __init__(self, results: Sequence[VectorStep], log: list[str] | None = None) -> None:
        self.results, self.log = list(results), [] if log is None else log
        self.told: list[list[str | None]] = []
        self.episode_numbers, self.episode_lengths = [0, 0, 0], [0, 0, 0]
        self.begun: list[list[int]] = []
        self.groups = [range(3)]

    def begin(self, numbers: Sequence[int]) -> list[Any]:
        self.begun.append(list(numbers))
        self.episode_numbers, self.episode_lengths = list(numbers), [0, 0, 0]
        return [shown(f"start {i} again") for i in range(3)]

    def reset(self) -> list[Any]:
        return [shown("start 0"), shown("start 1"), shown("start 2")]

    def step_async(self, actions: Sequence[str | None], group: int, answers: Sequence[str] | None = None) -> None:
        self.told.append(list(actions))
        self.log.append(f"begin {group}")

    def step_wait(self, group: int) -> VectorStep:
        self.log.append(f"wait {group}")
        if len(self.groups) > 1:
            return self.results[0][self.groups[group].start : self.groups[group].stop]
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


@pytest.mark.parametrize(
    ("groups", "log"),
    [
        ([range(3)], "answer, begin 0, wait 0, answer, begin 0, wait 0"),
        (
            [range(2), range(2, 3)],
            "answer, begin 0, answer, begin 1, wait 0, answer, begin 0, wait 1, answer, begin 1, wait 0, wait 1",
        ),
    ],
    ids=["one group", "two groups"],
)
def test_one_group_is_answered_while_the_other_takes_its_step(
    groups: list[range], log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [[f'{{"action": "{t}{i}"}}' for i in group] for t in range(2) for group in groups]
    model = ScriptedModel(texts)
    simulators = ScriptedSimulators([result([0.5, -1.0, 0.25], infos={2: {"invalid": True}})] * 2, model.log)
    simulators.groups = groups
    seconds = {"answer": 1.0, "begin": 10.0, "wait": 100.0}
    # What the clock shows is what has been done by then.
    monkeypatch.setattr("vldac.rollout.time.perf_counter", lambda: sum(seconds[each.split()[0]] for each in model.log))
    collector = Collector(actor(model), simulators)
    collector.start()
    rollout = collector.collect(2)
    assert model.log == log.split(", ")
    assert simulators.told == [[f"{t}{i}" for i in group] for t in range(2) for group in groups]
    assert [[step.reward for step in row] for row in rollout.steps] == [[0.5, -1.0, 0.25]] * 2
    assert rollout.invalid == 2
    assert [label(prompt) for prompt in rollout.last_prompts] == ["next 0", "next 1", "next 2"]
    assert rollout.seconds == {"simulator": 200.0 * len(groups), "generation": 22.0 * len(groups)}


def play(config: Config, vlm: VLM, state: Any = None, **options: Any) -> tuple[list[Rollout], Any]:
    """Three rollouts from the start, or those that follow the first; and where the simulators stood after that."""
    with make_simulators(config, 2, Runtime(0, 1, vlm.device)) as simulators:
        collector = Collector(Actor.of(vlm, config.rollout), simulators, seed=9, group_size=2, **options)
        if state is None:
            collector.start()
            rollouts = [collector.collect(4, 0)]
            state = simulators.state_dict()
        else:
            collector.resume(state)
            rollouts = []
        return [*rollouts, collector.collect(8, 0), collector.collect(3, 0)], state


def assert_same_rollout(one: Rollout, other: Rollout) -> None:
    """Everything but the clock; log-probabilities and states to the rounding of another batch."""
    assert [len(row) for row in one.steps] == [len(row) for row in other.steps]
    steps = zip(chain.from_iterable(one.steps), chain.from_iterable(other.steps), strict=True)
    for a, b in steps:
        assert torch.equal(a.prompt.input_ids, b.prompt.input_ids)
        assert torch.equal(a.prompt.pictures["image_grid_thw"], b.prompt.pictures["image_grid_thw"])
        assert a.prompt.features is not None
        assert b.prompt.features is not None
        torch.testing.assert_close(a.prompt.features["pooled"], b.prompt.features["pooled"], rtol=0, atol=1e-5)
        assert torch.equal(a.response.token_ids, b.response.token_ids)
        torch.testing.assert_close(a.response.log_probs, b.response.log_probs, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.response.state, b.response.state, rtol=0, atol=1e-4)
        told = ("reward", "terminated", "truncated", "episode", "lost")
        assert [getattr(a, name) for name in told] == [getattr(b, name) for name in told]
        assert (a.final_prompt is None) == (b.final_prompt is None)
    assert one.episodes == other.episodes
    assert (one.invalid, one.truncated, one.lost) == (other.invalid, other.truncated, other.lost)


@pytest.mark.parametrize("whole_episodes", [False, True])
def test_double_buffering_changes_no_trajectory_and_nothing_that_is_resumed_from(
    whole_episodes: bool, tiny_config: Any, tiny_base: Path
) -> None:
    # Groups of neighbors that start alike, 2, lie across the halves, 3 and 3.
    env = {"num_envs": 6, "num_workers": 2, "max_steps": 5}
    single, double = (
        tiny_config({"env": env, "rollout": {"double_buffering": on}, "train": {"batch_size": 8}})
        for on in (False, True)
    )
    vlm = policy.load_base(tiny_base, single.model)
    vlm.add_adapter(4, 8)
    vlm.eval()
    expected, state = play(single, vlm, whole_episodes=whole_episodes)
    found, same_state = play(double, vlm, whole_episodes=whole_episodes)
    assert same_state == state
    for one, other in zip(found, expected, strict=True):
        assert_same_rollout(one, other)
    assert len({len(step.response.token_ids) for rollout in found for row in rollout.steps for step in row}) > 1
    assert sum(len(rollout.episodes) for rollout in found) > 6
    resumed, _ = play(double, vlm, state, whole_episodes=whole_episodes)
    for one, other in zip(resumed, found[1:], strict=True):
        assert_same_rollout(one, other)


@pytest.mark.parametrize("double_buffering", [False, True])
def test_a_frame_that_is_shown_in_several_steps_is_processed_once(
    double_buffering: bool, tiny_config: Any, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = {"double_buffering": double_buffering}
    config = tiny_config({"env": {"frames": 3, "max_steps": 3, "num_workers": 2}, "rollout": rollout})
    vlm = policy.load_base(tiny_base, config.model)  # without an adapter: prompts keep their pixels
    encode, processed = vlm.family.encode_pictures, list[bytes]()

    def counted(images: Sequence[Any]) -> Any:
        processed.extend(image.tobytes() for image in images)
        return encode(images)

    monkeypatch.setattr(vlm.family, "encode_pictures", counted)
    once, _ = play(config, vlm)
    steps = sum(len(row) for rollout in once for row in rollout.steps)
    ended = sum(len(rollout.episodes) for rollout in once)
    # The windows that a rollout begins with; then a frame of each step, and of each episode that begins.
    assert len(processed) <= 3 * 4 * len(once) + steps + ended
    processed.clear()
    monkeypatch.setattr(Collector, "_picture_cache", lambda _: None)
    again, _ = play(config, vlm)
    assert len(processed) == 3 * sum(len(prompts_of(rollout)) for rollout in again)
    for one, other in zip(once, again, strict=True):
        for a, b in zip(prompts_of(one), prompts_of(other), strict=True):
            assert torch.equal(a.input_ids, b.input_ids)
            assert torch.equal(a.pictures["pixel_values"], b.pictures["pixel_values"])


def prompts_of(rollout: Rollout) -> list[Prompt]:
    steps = [step for row in rollout.steps for step in row]
    finals = [step.final_prompt for step in steps if step.final_prompt is not None]
    return [*(step.prompt for step in steps), *finals, *rollout.last_prompts]


def test_a_worker_that_is_lost_with_one_half_costs_the_other_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "envs")  # for "misbehaving_envs:Counter"
    go, die = '{"action": "go"}', '{"action": "die"}'
    model = ScriptedModel([[go, go], [go, go], [go, die], [go, go], [go, go], [go, go]])
    options: dict[str, Any] = {"width": 8, "height": 8, "groups": 2, "seeds": lambda i, k: 10 * i + k}
    with VectorEnv("misbehaving_envs:Counter", 4, num_workers=2, **options) as simulators:
        collector = Collector(actor(model), simulators)
        collector.start()
        rollout = collector.collect(3)
    assert [[step.lost for step in row] for row in rollout.steps] == [
        [False] * 4,
        [True, True, False, False],
        [False] * 4,
    ]
    assert [[step.episode for step in row] for row in rollout.steps] == [[0] * 4, [0] * 4, [1, 1, 0, 0]]
    assert [label(prompt) for prompt in rollout.last_prompts] == [
        *("seed 1 step 1", "seed 11 step 1", "seed 20 step 3", "seed 30 step 3")
    ]
    assert rollout.lost == 2


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
