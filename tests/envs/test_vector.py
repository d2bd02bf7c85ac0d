from __future__ import annotations

import gc
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.base import EVALUATION_SEEDS, TRAINING_SEEDS, Observation, SimulatorError
from envs.registry import make
from envs.vector import VectorEnv, VectorStep, evaluation_seeds, seeds_from, training_seeds

SIZE: dict[str, Any] = {"width": 16, "height": 16}
ENVIRONMENTS = {
    "GymCards-NumberLine-v0": ["-", "+", "jump", None],
    "MiniWorld-OneRoomS6Fast-v0": ["left", "right", "forward", "forward", "fly", None],
    "MiniWorld-MazeS2-v0": ["left", "right", "forward", "forward", None],
}


@pytest.fixture(autouse=True)
def _envs_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(
        Path(__file__).parent
    )  # for "misbehaving_envs:Counter"; workers inherit the search path


def counters(
    num_envs: int = 4,
    *,
    num_workers: int = 2,
    deadline: float = 60.0,
    name: str = "Counter",
    groups: int = 1,
    history: int = 0,
) -> VectorEnv:
    return VectorEnv(
        f"misbehaving_envs:{name}",
        num_envs,
        num_workers=num_workers,
        seeds=lambda i, k: 100 * i + k,
        step_deadline=deadline,
        groups=groups,
        history=history,
        frames=2,
        **SIZE,
    )


def test_returns_are_of_unscaled_rewards_and_tasks_and_actions_arrive() -> None:
    with VectorEnv(
        "misbehaving_envs:Choosy", 2, num_workers=1, seeds=lambda i, k: k if k < 2 else None, reward_scale=0.5, **SIZE
    ) as pool:
        pool.reset()
        assert pool.action_names == [("win0",)] * 2
        step = pool.step(["win0", "no such action"])
        assert step.rewards.tolist() == [0.05, 0.05]
        assert step.infos[0]["task"] == "winning 0"
        assert step.infos[0]["episode_return"] == 0.1
        assert pool.action_names == [("win0",), ("go", "win1")]
        assert "task" not in step.infos[1]
        assert pool.step(["win0", "win1"]).infos[0]["task"] == "winning 0"
        assert pool.action_names == [(), ("win0",)]  # simulator 0 has no episode left

        with VectorEnv("misbehaving_envs:Choosy", 1, num_workers=1, seeds=lambda i, k: k, **SIZE) as restored:
            restored.load_state_dict(
                {"env_id": restored.env_id, "episodes": [{"index": 0, "seed": 0, "actions": ["x"], "total": 1.0}]}
            )
            assert restored.action_names == [("go", "win1")]


def test_an_environment_hears_of_each_next_seed_once() -> None:
    with VectorEnv(
        "misbehaving_envs:Listening", 1, num_workers=1, seeds=lambda i, k: k if k < 3 else None, **SIZE
    ) as pool:
        pool.reset()
        heard = [pool.step([name]).observations[0] for name in ("go", "go", "win", "go", "win")]
        assert [o and o["prompt"] for o in heard] == ["[1]", "[1]", "[1]", "[1, 2]", "[1, 2]"]


def same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return a["prompt"] == b["prompt"] and np.array_equal(a["frames"], b["frames"])


def pids(pool: VectorEnv) -> list[int]:
    return [worker.process.pid for worker in pool._workers]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(processes: list[int]) -> bool:
    for _ in range(200):
        if not any(alive(pid) for pid in processes):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("env_id", "num_workers"),
    [
        ("GymCards-NumberLine-v0", 1),
        ("GymCards-NumberLine-v0", 2),
        ("MiniWorld-OneRoomS6Fast-v0", 2),
        ("MiniWorld-MazeS2-v0", 1),  # walls that differ between the simulators of one process
    ],
)
def test_equals_single_simulators(env_id: str, num_workers: int) -> None:
    actions = ENVIRONMENTS[env_id]
    options: dict[str, Any] = {"width": 24, "height": 16, "frames": 2, "prompt": "terse"}
    seeds = training_seeds(3)
    choose = random.Random(0)
    singles = [make(env_id, **options) for _ in range(3)]
    episodes, returns, lengths = [0] * 3, [0.0] * 3, [0] * 3
    with VectorEnv(env_id, 3, num_workers=num_workers, seeds=seeds, **options) as pool:
        for i, observation in enumerate(pool.reset()):
            assert same(observation, singles[i].reset(seed=seeds(i, 0))[0])
        for _ in range(60):
            texts = [choose.choice(actions) for _ in range(3)]
            step = pool.step(texts)
            for i, (single, text) in enumerate(zip(singles, texts, strict=True)):
                action = None if text is None else single.unwrapped.parse_action(text)  # type: ignore[attr-defined]
                observation, reward, terminated, truncated, info = single.step(action)
                returns[i] += float(reward)
                lengths[i] += 1
                assert (step.rewards[i], step.terminated[i], step.truncated[i]) == (reward, terminated, truncated)
                assert step.infos[i]["invalid"] == info["invalid"] == (action is None)
                if terminated or truncated:
                    assert same(step.final_observations[i], observation)
                    assert step.infos[i] == {
                        "invalid": info["invalid"],
                        "success": info["success"],
                        "lost": False,
                        "episode_return": returns[i],
                        "episode_length": lengths[i],
                        "episode_seed": seeds(i, episodes[i]),
                    }
                    episodes[i], returns[i], lengths[i] = episodes[i] + 1, 0.0, 0
                    observation, _ = single.reset(seed=seeds(i, episodes[i]))
                else:
                    assert step.final_observations[i] is None
                assert same(step.observations[i], observation)
    assert sum(episodes) > 0 or "Maze" in env_id
    for single in singles:
        single.close()


@pytest.mark.parametrize("env_id", ["GymCards-NumberLine-v0", "MiniWorld-OneRoomS6Fast-v0"])
def test_state_round_trip_is_exact(env_id: str) -> None:
    actions = ENVIRONMENTS[env_id]
    options: dict[str, Any] = {"width": 24, "height": 16, "frames": 3, "prompt": "terse"}
    choose = random.Random(1)
    texts = [[choose.choice(actions) for _ in range(3)] for _ in range(30)]
    with VectorEnv(env_id, 3, num_workers=1, seeds=training_seeds(1), **options) as pool:
        pool.reset()
        for line in texts[:13]:
            last = pool.step(line)
        state = json.loads(json.dumps(pool.state_dict()))
        rest = [pool.step(line) for line in texts[13:]]
        assert pool.state_dict() != state
    with VectorEnv(env_id, 3, num_workers=2, seeds=training_seeds(1), **options) as pool:
        restored = pool.load_state_dict(state)
        assert all(same(a, b) for a, b in zip(restored, last.observations, strict=True))
        assert pool.state_dict() == state
        for line, expected in zip(texts[13:], rest, strict=True):
            assert_same_step(pool.step(line), expected)


def assert_same_step(a: VectorStep, b: VectorStep) -> None:
    assert all(same(x, y) for x, y in zip(a.observations, b.observations, strict=True))
    assert all(same(x, y) for x, y in zip(a.final_observations, b.final_observations, strict=True))
    for name in ("rewards", "terminated", "truncated"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    assert a.infos == b.infos


def test_state_of_another_pool_is_refused() -> None:
    with counters(2) as pool, counters(3) as other:
        other.reset()
        with pytest.raises(ValueError, match="3 simulators"):
            pool.load_state_dict(other.state_dict())


def test_replay_that_ends_early_is_an_error() -> None:
    with counters(1, num_workers=1) as pool:
        pool.reset()
        state = pool.state_dict()
        state["episodes"][0]["actions"] = ["go"] * 8
        with pytest.raises(SimulatorError, match=r"ended at step 6 of 8 in its replay"):
            pool.load_state_dict(state)


def test_simulators_stop_when_their_seeds_run_out() -> None:
    episodes = 5
    with VectorEnv("misbehaving_envs:Counter", 3, num_workers=2, seeds=evaluation_seeds(episodes, 3), **SIZE) as pool:
        observations = pool.reset()
        seen = []
        steps = 0
        while any(observation is not None for observation in observations):
            step = pool.step([None if steps % 2 else "go"] * 3)
            observations = step.observations
            seen += [info["episode_seed"] for info in step.infos if "episode_seed" in info]
            steps += 1
        assert steps == 12
        assert sorted(seen) == list(EVALUATION_SEEDS[:episodes])
        assert pool.step(["go"] * 3).infos == [{}, {}, {}]


def test_more_simulators_than_episodes() -> None:
    with VectorEnv("misbehaving_envs:Counter", 3, num_workers=3, seeds=evaluation_seeds(2, 3), **SIZE) as pool:
        assert [observation is None for observation in pool.reset()] == [False, False, True]


@pytest.mark.parametrize(
    ("action", "reason"), [("die", "SIGKILL"), ("hang", "did not answer in time"), ("raise", "on purpose")]
)
def test_lost_worker_costs_only_its_episodes(action: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with counters(4, num_workers=2, deadline=1.0) as pool:
        pool.reset()
        before = pool.step(["go"] * 4)
        old = pids(pool)
        with caplog.at_level(logging.WARNING):
            step = pool.step(["go", action, "go", "go"])
        assert len(caplog.records) == 1
        assert "simulators 0, 1" in caplog.text
        assert reason in caplog.text
        assert step.truncated.tolist() == [True, True, False, False]
        assert not step.terminated.any()
        for i in (0, 1):
            assert same(step.final_observations[i], before.observations[i])
            assert step.infos[i] == {
                "invalid": False,
                "success": False,
                "lost": True,
                "episode_return": pytest.approx(0.1),
                "episode_length": 1,
                "episode_seed": 100 * i,
            }
            assert step.observations[i]["prompt"] == f"seed {100 * i + 1} step 0"  # type: ignore[index]
        for i in (2, 3):
            assert step.observations[i]["prompt"] == f"seed {100 * i} step 2"  # type: ignore[index]
            assert step.infos[i] == {"invalid": False}
        assert gone(old[:1])
        assert alive(old[1])
        assert [o["prompt"][-6:] for o in pool.step(["go"] * 4).observations if o] == ["step 1"] * 2 + ["step 3"] * 2


def test_a_worker_lost_in_its_last_episodes_shows_nothing_more() -> None:
    with VectorEnv("misbehaving_envs:Counter", 3, num_workers=2, seeds=evaluation_seeds(3, 3), **SIZE) as pool:
        assert all(pool.reset())
        step = pool.step(["die", "go", "go"])
        block = [i for i, info in enumerate(step.infos) if info.get("lost")]
        assert 0 in block
        assert len(block) < 3
        for i in range(3):
            assert (step.observations[i] is None) == (i in block)
            assert (pool.episode_seeds[i] is None) == (i in block)
            assert (pool.action_names[i] == ()) == (i in block)
        while any(pool.step(["win"] * 3).observations):
            pass


def test_groups_stepped_in_turn_equal_all_simulators_stepped_together() -> None:
    choose = random.Random(2)
    with counters(5, num_workers=3) as pool, counters(5, num_workers=3, groups=2) as halves:
        assert (pool.groups, halves.groups) == ([range(5)], [range(4), range(4, 5)])
        assert all(same(a, b) for a, b in zip(halves.reset(), pool.reset(), strict=True))
        halves.step_async(["go"] * 4, 0)
        first = pool.step(["go"] * 5)
        halves.step_async(["go"], 1)
        for _ in range(8):
            texts = [choose.choice(["go", "win", "fly", None]) for _ in range(5)]
            assert_same_step(halves.step_wait(0), first[0:4])
            halves.step_async(texts[:4], 0)  # one step ahead of the other group
            assert_same_step(halves.step_wait(1), first[4:5])
            halves.step_async(texts[4:], 1)
            first = pool.step(texts)
        assert_same_step(halves.step_wait(0), first[0:4])
        assert_same_step(halves.step_wait(1), first[4:5])
        assert halves.state_dict() == pool.state_dict()
        assert halves.episode_numbers != [0] * 5
        assert_same_step(halves.step(["go"] * 5), pool.step(["go"] * 5))


def test_a_group_takes_its_step_before_anybody_waits_for_it() -> None:
    with counters(2, groups=2, deadline=2.0) as pool:
        pool.reset()
        pool.step_async(["go"], 0)
        assert pool._workers[0].connection.poll(60)
        time.sleep(2.0)
        assert pool.step_wait(0).infos == [{"invalid": False}]  # within its deadline, however late it is asked for


def test_a_lost_worker_costs_the_other_group_nothing() -> None:
    with counters(4, groups=2) as pool:
        pool.reset()
        pool.step_async(["go", "die"], 0)
        pool.step_async(["go", "win"], 1)
        lost, kept = pool.step_wait(0), pool.step_wait(1)
        assert [info["lost"] for info in lost.infos] == [True, True]
        assert [o and o["prompt"] for o in lost.observations] == ["seed 1 step 0", "seed 101 step 0"]
        assert [o and o["prompt"] for o in kept.observations] == ["seed 200 step 1", "seed 301 step 0"]
        assert kept.infos[1]["success"]


def test_observations_hold_what_was_asked_and_answered_before_them_in_their_episode() -> None:
    def history(observation: Observation | None) -> list[tuple[str, ...]]:
        assert observation is not None
        return [tuple(exchange) for exchange in observation["history"]]

    with counters(2, num_workers=2, history=2) as pool, counters(2, num_workers=2, history=2) as other:
        assert [history(o) for o in pool.reset()] == [[], []]
        pool.step(["go", None], ["I go", "?"])
        pool.step(["go", "go"], ["on", "now I do"])
        step = pool.step(["go", "win"], ["and on", "I win"])
        assert history(step.observations[0]) == [("seed 0 step 1", "on"), ("seed 0 step 2", "and on")]
        assert history(step.observations[1]) == []
        assert history(step.final_observations[1]) == [("seed 100 step 1", "now I do"), ("seed 100 step 2", "I win")]
        state = json.loads(json.dumps(pool.state_dict()))
        assert [history(o) for o in other.load_state_dict(state)] == [history(o) for o in step.observations]
        assert_same_step(other.step(["go", "die"], ["a", "b"])[:1], pool.step(["go", "die"], ["a", "b"])[:1])
        lost = pool.step(["go", "go"], ["c", "d"]).observations  # of simulator 1, an episode after the lost one
        assert [history(o) for o in lost] == [
            [("seed 0 step 3", "a"), ("seed 0 step 4", "c")],
            [("seed 102 step 0", "d")],
        ]


def test_without_history_nothing_that_was_written_is_kept() -> None:
    with counters(1, num_workers=1) as pool:
        pool.reset()
        (observation,) = pool.step(["go"], ["I go"]).observations
        assert observation is not None
        assert "history" not in observation
        assert pool.state_dict()["episodes"][0]["history"] == []


def test_history_needs_the_answers() -> None:
    with counters(2, num_workers=1, history=1) as pool:
        pool.reset()
        with pytest.raises(ValueError, match="0 answers for 2 actions"):
            pool.step(["go", "go"])
        with pytest.raises(ValueError, match="1 answers for 2 actions"):
            pool.step_async(["go", "go"], 0, ["I go"])
        assert pool.step(["go", "go"], ["a", "b"]).infos == [{"invalid": False}] * 2


def test_worker_killed_between_steps() -> None:
    with counters(2, num_workers=2) as pool:
        pool.reset()
        os.kill(pids(pool)[1], signal.SIGKILL)
        step = pool.step(["go"] * 2)
        assert [info.get("lost", False) for info in step.infos] == [False, True]


@pytest.mark.parametrize(
    ("name", "message"), [("Broken", "OSError: no such simulator in two lines"), ("CrashesAtReset", "SIGKILL")]
)
def test_worker_that_never_starts_is_an_error(name: str, message: str) -> None:
    with pytest.raises(SimulatorError, match=message) as error, counters(2, num_workers=1, name=name) as pool:
        pool.reset()
    assert "\n" not in str(error.value)


def test_environment_that_fails_every_step_is_an_error() -> None:
    with counters(1, num_workers=1) as pool:
        pool.reset()
        for _ in range(2):
            pool.step(["raise"])
        with pytest.raises(SimulatorError, match="3 times in a row"):
            pool.step(["raise"])
        with pytest.raises(RuntimeError, match="closed"):
            pool.step(["go"])


def test_nothing_is_left_behind() -> None:
    gc.collect()  # what earlier tests dropped, with the files it holds, is not to be counted as given back by this one
    files = len(os.listdir("/proc/self/fd"))
    shared = set(os.listdir("/dev/shm"))
    pool = counters(3, num_workers=2)
    pool.reset()
    workers = pids(pool)
    pool.close()
    pool.close()
    assert gone(workers)
    del pool
    assert len(os.listdir("/proc/self/fd")) == files
    assert set(os.listdir("/dev/shm")) == shared


@pytest.mark.parametrize("hang", [False, True])
def test_killed_parent_leaves_nothing(hang: bool) -> None:
    shared = set(os.listdir("/dev/shm"))
    script = (
        "import os, signal, sys, threading\n"
        "from envs.vector import VectorEnv\n"
        "sizes = {'width': 16, 'height': 16}\n"
        "pool = VectorEnv('misbehaving_envs:Counter', 2, num_workers=2, seeds=lambda i, k: k, **sizes)\n"
        "pool.reset()\n"
        "print(*(worker.process.pid for worker in pool._workers), flush=True)\n"
        + (
            "threading.Timer(1, os.kill, (os.getpid(), signal.SIGKILL)).start()\npool.step(['hang'] * 2)\n"
            if hang
            else ""
        )
        + "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    parent = subprocess.run(
        [sys.executable, "-c", script], check=False, env=environment, capture_output=True, text=True
    )
    assert parent.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in parent.stdout.split()]
    assert len(workers) == 2
    assert gone(workers)
    assert set(os.listdir("/dev/shm")) == shared


def test_interrupt_reaches_only_the_parent() -> None:
    with counters(2, num_workers=2) as pool:
        pool.reset()
        assert all(os.getpgid(pid) == pid != os.getpgrp() for pid in pids(pool))


def test_imports_no_learner() -> None:
    code = "import sys, envs.vector, envs.miniworld.env, envs.gym_cards; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "vldac", "pipelines"} & set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_workers": 0},
        {"num_workers": 3},
        {"num_workers": 1, "step_deadline": 0},
        {"num_workers": 2, "groups": 0},
        {"num_workers": 1, "groups": 2},
        {"num_workers": 1, "history": -1},
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(num_workers|step_deadline|groups|history) is"):
        VectorEnv("misbehaving_envs:Counter", 2, seeds=lambda i, k: 0, **arguments, **SIZE)


def test_misuse_is_refused() -> None:
    with counters(2, num_workers=1) as pool:
        with pytest.raises(RuntimeError, match="reset"):
            pool.step(["go", "go"])
        pool.reset()
        with pytest.raises(ValueError, match="1 actions for 2"):
            pool.step(["go"])


def test_misuse_of_groups_is_refused() -> None:
    with counters(2, groups=2) as pool:
        with pytest.raises(RuntimeError, match="reset"):
            pool.step_async(["go"], 0)
        pool.reset()
        with pytest.raises(ValueError, match="2 actions for 1"):
            pool.step_async(["go", "go"], 0)
        with pytest.raises(RuntimeError, match="step_async"):
            pool.step_wait(0)
        pool.step_async(["go"], 0)
        with pytest.raises(RuntimeError, match="step_wait"):
            pool.step_async(["go"], 0)
        state = pool.state_dict()
        for call in (pool.reset, lambda: pool.step(["go"] * 2), lambda: pool.load_state_dict(state)):
            with pytest.raises(RuntimeError, match="step_wait"):
                call()
        assert pool.step_wait(0).infos == [{"invalid": False}]


def test_seeds_never_meet() -> None:
    training = [training_seeds(s)(i, k) for s in range(3) for i in range(16) for k in range(40)]
    assert all(seed in TRAINING_SEEDS for seed in training)
    assert len(set(training)) > 0.999 * len(training)
    assert training_seeds(5)(10, 3) == seeds_from(training_seeds(5), 8)(2, 3) != training_seeds(5)(2, 3)
    deal = evaluation_seeds(10, 4)
    evaluation = [deal(i, k) for i in range(4) for k in range(4)]
    assert sorted(seed for seed in evaluation if seed is not None) == list(EVALUATION_SEEDS[:10])
    assert deal(1, 2) == EVALUATION_SEEDS[9]
    assert TRAINING_SEEDS[-1] < EVALUATION_SEEDS[0]
