from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vldac.config import Config, parse
from vldac.early_warnings import early_warnings
from vldac.episodes import EpisodeStatistics, episode_row, recent_success, running_since


def test_an_episode_is_dated_by_its_beginning_in_steps_of_all_simulators(tiny_config: Any) -> None:
    config = tiny_config()  # 4 steps of 4 simulators an update
    ended = {"success": True, "episode_return": 0.5, "episode_length": 3, "episode_seed": 7, "ended_at": 1}
    # Two updates are 8 steps of each simulator; it ended at the second one after them, so it took steps 7, 8 and 9
    # (counted from 0), and before step 7 the four simulators had taken 7 x 4.
    row = episode_row(ended, 2, config)
    assert row == {"update": 3, "began": 28, "success": True, "return": 0.5, "length": 3, "seed": 7, "assisted": False}
    assert episode_row({**ended, "episode_length": 10}, 2, config)["began"] == 0
    assert running_since([1, 3, 0, 2], 2, config) == (8 - 3) * 4


def simulate(quick: int, slow: int, updates: int, seed: int = 0) -> tuple[list[dict[str, float]], float]:
    """A policy that succeeds half of the time, in `quick` steps, and fails in `slow`: metrics, and the naive rate."""
    config = parse({"env": {"num_envs": 16}, "rollout": {"steps": 8}, "train": {"batch_size": 32}})
    rng, statistics = random.Random(seed), EpisodeStatistics()
    lengths, plans = [0] * 16, [rng.random() < 0.5 for _ in range(16)]
    history, naive = [], []
    for update in range(updates):
        rows = []
        for step in range(8):
            for i in range(16):
                lengths[i] += 1
                if lengths[i] == (quick if plans[i] else slow):
                    info = {"success": plans[i], "episode_return": float(plans[i]), "episode_length": lengths[i]}
                    rows.append(episode_row({**info, "episode_seed": i, "ended_at": step}, update, config))
                    lengths[i], plans[i] = 0, rng.random() < 0.5
        naive += [row["success"] for row in rows]
        history.append(statistics.add(rows, running_since(lengths, update + 1, config)))
    return history, sum(naive[-100:]) / len(naive[-100:])


def test_episodes_that_the_expert_began_do_not_count(tiny_config: Any) -> None:
    config, statistics = tiny_config({"env": {"expert_start": 0.5}}), EpisodeStatistics()
    ended = {"success": True, "episode_return": 1.0, "episode_length": 1, "ended_at": 0}
    rows = [episode_row({**ended, "episode_seed": seed}, 0, config) for seed in range(40)]
    own = [row for row in rows if not row["assisted"]]
    assert 8 < len(own) < 32
    metrics = statistics.add(rows, 100)
    assert (statistics.ended, metrics["episode/count"]) == (len(own), len(own))


def test_success_is_not_that_of_the_quick_ones() -> None:
    early, naive = simulate(3, 60, updates=7)
    assert naive > 0.85  # whatever has ended: almost only successes
    assert "episode/success_last_100" not in early[0]  # nothing has been compared yet, so nothing is said
    late, _ = simulate(3, 60, updates=80)
    assert late[-1]["episode/success_last_100_count"] == 100
    means = [simulate(3, 60, updates=80, seed=seed)[0][-1]["episode/success_last_100"] for seed in range(12)]
    assert sum(means) / len(means) == pytest.approx(0.5, abs=0.05)


def test_every_episode_is_counted_once_and_only_after_all_that_began_before_it() -> None:
    history, _ = simulate(3, 60, updates=80)
    counted = sum(row.get("episode/count", 0) for row in history)
    assert counted > 300
    until = [row["episode/complete_until"] for row in history]
    assert until == sorted(until)


def test_statistics_resume_from_json() -> None:
    def row(began: int, *, success: bool) -> dict[str, Any]:
        return {"began": began, "success": success, "return": float(success), "length": 2, "seed": began}

    whole, first = EpisodeStatistics(), EpisodeStatistics()
    parts = [([row(0, success=True), row(9, success=False)], 5), ([row(4, success=False)], 20)]
    whole.add(*parts[0])
    first.add(*parts[0])
    resumed = EpisodeStatistics()
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert resumed.add(*parts[1]) == whole.add(*parts[1])
    assert resumed.state_dict() == whole.state_dict()


def test_a_target_is_reached_once_a_whole_window_has_kept_it_for_five_updates() -> None:
    statistics, now = EpisodeStatistics(), 0
    for update in range(1, 20):
        rows = [{"began": now + i, "success": update > 4, "return": 1.0, "length": 1, "seed": i} for i in range(25)]
        now += 25
        statistics.add(rows, now)
        # From the 8th update on, the last hundred are of the 5th and later; the 12th is the fifth in a row.
        assert statistics.reached(1.0) == (update >= 12)
        assert statistics.reached(0.0) == (update >= 8)  # from the 4th on there are a hundred
        assert not statistics.reached(None)
        resumed = EpisodeStatistics()
        resumed.load_state_dict(json.loads(json.dumps(statistics.state_dict())))
        assert resumed.reached(1.0) == statistics.reached(1.0)


def test_a_rate_is_read_once_and_not_again_while_a_long_episode_holds_up_the_next_ones() -> None:
    statistics = EpisodeStatistics()
    rows = [{"began": i, "success": i > 0, "return": 1.0, "length": 1, "seed": i} for i in range(100)]
    statistics.add(rows, 100)
    for update in range(1, 9):  # failures that nobody may count yet
        statistics.add(
            [{"began": 100 + update, "success": False, "return": 0.0, "length": 1, "seed": 100 + update}], 100
        )
    assert list(statistics.recent) == [0.99]
    assert not statistics.reached(0.98)


def test_of_rollouts_that_begin_anew_only_whole_first_cohorts_count() -> None:
    def row(began: int, *, success: bool, seed: int) -> dict[str, Any]:
        return {"began": began, "success": success, "return": float(success), "length": 2, "seed": seed}

    statistics = EpisodeStatistics()
    # Three simulators: two end at once, succeed, and end another episode; the third is still at its first.
    quick = [row(0, success=True, seed=0), row(0, success=True, seed=1), row(6, success=True, seed=3)]
    shown = statistics.add(quick, 0, 3)
    assert "episode/success" not in shown
    assert shown["episode/ended"] == 3
    # All three first ones have ended; the later one of a quick simulator does not count.
    whole = [row(30, success=True, seed=4), row(30, success=False, seed=5), row(30, success=True, seed=6)]
    shown = statistics.add([*whole, row(36, success=True, seed=7)], 30, 3)
    assert (shown["episode/count"], shown["episode/success"]) == (3, pytest.approx(2 / 3))
    # One of them was begun by the expert: the cohort is whole, and the episode counts for nothing.
    assisted = [{**each, "began": 60, "assisted": each["seed"] == 5} for each in whole]
    shown = statistics.add(assisted, 60, 3)
    assert (shown["episode/count"], shown["episode/success"]) == (2, 1.0)
    assert statistics.assisted == 1


def test_success_of_rollouts_that_begin_anew_is_that_of_the_policy() -> None:
    """Quick successes and long failures, half and half, in rollouts as long as the longest episode or shorter."""
    rng = np.random.default_rng(0)
    for steps, expected in ((12, 0.5), (6, None)):
        statistics, rates = EpisodeStatistics(), []
        for update in range(200):
            rows, start = [], update * steps
            for simulator in range(8):
                at = 0
                while True:
                    success = bool(rng.random() < 0.5)
                    length = 2 if success else 12
                    if at + length > steps:
                        break
                    rows.append(
                        {
                            "began": 8 * (start + at),
                            "success": success,
                            "return": 0.0,
                            "length": length,
                            "seed": simulator,
                        }
                    )
                    at += length
            shown = statistics.add(rows, 8 * (start + steps), 8)
            rates += [shown["episode/success"]] if "episode/success" in shown else []
        if expected is None:
            assert not [rate for rate in rates if rate < 1]  # no failure ends within 6 steps ...
            assert len(rates) < 5  # ... so that hardly a cohort is whole
        else:
            assert sum(rates) / len(rates) == pytest.approx(expected, abs=0.03)


def metrics(update: int, **changes: float) -> dict[str, float]:
    return {
        "update": update,
        "environment_steps": 256 * update,
        "rollout/truncated_responses": 0.0,
        "rollout/invalid_actions": 0.0,
        "policy/entropy": 1.0,
        "train/policy_frozen": 0.0,
        **{name.replace("__", "/"): value for name, value in changes.items()},
    }


def warnings(history: Sequence[dict[str, float]], statistics: EpisodeStatistics, oldest: int = 0) -> list[str]:
    return early_warnings(history, statistics, Config(), oldest)  # 32 updates


def test_a_run_whose_policy_never_learns_says_so_at_once() -> None:
    config = Config.model_validate({"train": {"total_steps": 512}})  # 2 updates, value_warmup 2
    nothing = EpisodeStatistics()
    never, *_ = early_warnings([metrics(1, train__policy_frozen=1.0)], nothing, config, 0)
    assert never.startswith("train.value_warmup 2 takes all 2 updates")
    assert never.endswith("set it to 0, or train.total_steps above 512")
    without_critic = early_warnings([metrics(1)], nothing, config, 0)
    assert not [line for line in without_critic if "value_warmup" in line]
    assert warnings([metrics(1, train__policy_frozen=1.0)], nothing) == []


def test_a_run_whose_model_cannot_answer_says_so_at_once() -> None:
    nothing = EpisodeStatistics()
    assert warnings([metrics(1)], nothing) == []
    (cut,) = warnings([metrics(1, rollout__truncated_responses=0.98, rollout__invalid_actions=0.98)], nothing)
    assert cut.startswith("98% of the responses were cut off at rollout.max_new_tokens 24")
    (invalid,) = warnings([metrics(1, rollout__invalid_actions=0.95)], nothing)
    assert invalid.startswith("95% of the responses named no legal action")
    assert warnings([metrics(1), metrics(2, rollout__invalid_actions=0.95)], nothing) == []


def ended(*returns: float, success: bool = False) -> EpisodeStatistics:
    statistics = EpisodeStatistics()
    rows = [{"began": i, "success": success, "return": r, "length": 1, "seed": i} for i, r in enumerate(returns)]
    statistics.add(rows, 0)
    return statistics


def course(updates: int, *, ended: int = 9, returns: tuple[float, float] = (-1.0, -1.0)) -> list[dict[str, float]]:
    """Updates with so many episodes each, whose return goes from the first to the second of these evenly."""
    low, high = returns
    return [
        metrics(
            i + 1,
            episode__ended=ended * (i + 1),
            episode__return=low + (high - low) * i / max(1, updates - 1),
            episode__count=ended,
        )
        for i in range(updates)
    ]


def test_a_run_that_sees_no_success_says_so_while_there_is_time() -> None:
    failing = ended(*[-1.0, 0.5] * 18)
    said = {n: found for n in range(1, 33) if (found := warnings(course(n), failing))}
    assert list(said) == [4, 16]  # after a tenth of the updates, and at half of them
    (line,) = said[4]
    assert line.startswith("no episode has succeeded in the first 1024 environment steps (36 episodes), and the return")
    assert "warm_start: sparse" in line
    # Two episodes an update: it is said once enough of them have ended.
    assert [n for n in range(1, 16) if warnings(course(n, ended=2), failing)] == [10]
    assert not any(warnings(course(n), ended(*[-1.0, 0.5] * 18, success=True)) for n in range(1, 33))


def test_a_run_without_success_whose_return_rises_is_told_both_ways_to_read_it() -> None:
    (line,) = warnings(course(4, returns=(-5.0, -1.0)), ended(*[-5.0, -1.0] * 18))
    assert "while the return rose from -5 to -1: that is progress where rewards tell of each step" in line
    assert "learns to avoid penalties" in line


def test_a_run_whose_episodes_are_all_alike_has_nothing_to_learn_from() -> None:
    (line,) = warnings(course(4), ended(*[-1.0] * 36))
    assert line.startswith("every episode has returned -1 in the first 1024 environment steps (36 episodes)")


def test_a_run_in_which_no_episode_ends_says_so() -> None:
    (line,) = warnings(course(4, ended=0), EpisodeStatistics(), oldest=256)  # 16 simulators
    assert line.startswith(
        "no episode has ended in the first 1024 environment steps; the oldest that runs has taken 48: whether"
    )
    assert warnings(course(3, ended=0), EpisodeStatistics()) == []
    assisted = EpisodeStatistics()
    assisted.add([{"success": True, "return": 1.0, "length": 1, "seed": 0, "began": 0, "assisted": True}], 9)
    assert warnings(course(4, ended=0), assisted) == []  # episodes do end


def test_a_run_that_always_succeeds_is_not_told_that_there_is_nothing_to_learn() -> None:
    assert warnings(course(4), ended(*[1.0] * 36, success=True)) == []


def test_a_policy_that_tries_nothing_new_before_it_succeeds_is_said_once() -> None:
    recent = {"episode__success_last_100": 0.1, "episode__success_last_100_count": 100}
    fallen = metrics(3, policy__entropy=0.1, **recent)
    history = [metrics(1), metrics(2, policy__entropy=0.3, **recent), fallen]
    statistics = ended(1.0, success=True)
    (line,) = warnings(history, statistics)
    assert line.startswith("the entropy of the responses has fallen from 1.000 to 0.100 while success is 0.10")
    assert warnings([*history, fallen | {"update": 4}], statistics) == []
    successful = fallen | {"episode/success_last_100": 0.9}
    assert warnings([*history[:2], successful], statistics) == []


def test_success_is_shown_with_its_interval_and_its_number() -> None:
    row = {"episode/success_last_100": 0.5, "episode/success_last_100_count": 100}
    assert recent_success(row) == "0.50 [0.40, 0.60] (n 100)"
    assert recent_success({}) == "-"
