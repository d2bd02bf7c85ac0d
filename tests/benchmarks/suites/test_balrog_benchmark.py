from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.records import Record, Records
from benchmarks.harness.task import BenchmarkDataError, Request
from benchmarks.suites.balrog import benchmark as benchmark_module
from benchmarks.suites.balrog import tasks
from benchmarks.suites.balrog.benchmark import Balrog
from benchmarks.suites.balrog.environment import Environment, Observation
from benchmarks.suites.balrog.play import MAX_ACTIONS
from benchmarks.suites.balrog.suite import BalrogOptions
from benchmarks.suites.balrog.tasks import ENVIRONMENTS
from vldac.models.conversation import plain


class Stairs(Environment):
    """Up is right; as many steps as the seed says, one fewer being worth less."""

    actions = ("up", "down")
    default_action = "down"
    open = most = 0

    def __init__(self) -> None:
        Stairs.open += 1
        Stairs.most = max(Stairs.most, Stairs.open)

    @property
    def max_steps(self) -> int:  # type: ignore[override]
        return self.height + 2

    def reset(self, seed: int) -> Observation:
        self.height, self.level = seed % 5 + 2, 0
        return Observation(f"floor 0 of {self.height}")

    def step(self, action: str) -> tuple[Observation, float, bool, bool]:
        self.level += 1 if action == "up" else -1
        return Observation(f"floor {self.level} of {self.height}"), 0.5, self.level == self.height, False

    def instruction(self) -> str:
        return "Climb."

    def progression(self) -> float:
        return max(0, self.level) / self.height

    def close(self) -> None:
        Stairs.open -= 1


class Dice:
    """Answers by the request alone, as a model that samples with the request's seed."""

    def __init__(self, answers: int | None = None) -> None:
        self.left = answers
        self.requests: list[Request] = []
        self.batches: list[int] = []

    def answer(self, requests: Sequence[Request]) -> list[str]:
        if self.left is not None:
            self.left -= len(requests)
            if self.left < 0:
                raise KeyboardInterrupt
        self.requests += requests
        self.batches.append(len(requests))
        keys = (f"{plain(request.messages)}{request.seed}" for request in requests)
        return [("up", "up", "up", "down", "fly")[hashlib.sha256(key.encode()).digest()[0] % 5] for key in keys]


@pytest.fixture(autouse=True)
def stairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "missing_packages", lambda name: [] if name in ("babyai", "crafter") else [name])
    monkeypatch.setattr(benchmark_module, "make", lambda environment, task, data: Stairs())
    monkeypatch.setattr(benchmark_module, "versions", lambda names: {})
    Stairs.open = Stairs.most = 0


def changed(options: BalrogOptions, **values: Any) -> BalrogOptions:
    return BalrogOptions.model_validate(options.model_dump() | values)


def benchmarked(directory: Path, options: BalrogOptions, runner: Any) -> list[Record]:
    benchmark = Balrog(options)
    with Records(directory, benchmark.identity()) as records:
        benchmark.run(runner, records)
        return sorted(records, key=lambda record: record.id)


FULL = BalrogOptions(profile="full", max_new_tokens=9)


def test_every_episode_has_a_record_and_each_is_the_same_in_any_company(tmp_path: Path) -> None:
    alone = benchmarked(tmp_path / "1", changed(FULL, batch_size=1), Dice())
    together = benchmarked(tmp_path / "16", changed(FULL, batch_size=16), many := Dice())
    assert len(alone) == 5 * 10 + 10
    assert alone == together
    assert max(many.batches) == 16
    assert len({record.score for record in alone}) > 2
    assert (Stairs.open, Stairs.most) == (0, 16)


@pytest.mark.parametrize("answers", [0, 1, 50, 200])
def test_a_killed_benchmark_resumes_to_the_same_records(tmp_path: Path, answers: int) -> None:
    whole = benchmarked(tmp_path / "whole", FULL, Dice())
    with pytest.raises(KeyboardInterrupt):
        benchmarked(tmp_path / "killed", FULL, Dice(answers))
    assert Stairs.open == 0
    again = Dice()
    assert benchmarked(tmp_path / "killed", FULL, again) == whole
    assert benchmarked(tmp_path / "killed", FULL, never := Dice()) == whole
    assert never.requests == []


def test_requests_are_the_protocols(tmp_path: Path) -> None:
    benchmarked(tmp_path, FULL, dice := Dice())
    assert {request.temperature for request in dice.requests} == {1.0}
    assert {request.max_new_tokens for request in dice.requests} == {9}
    assert len({request.seed for request in dice.requests}) == len(dice.requests)
    assert all(0 <= request.seed < 2**32 for request in dice.requests)


def test_a_record_tells_the_episode(tmp_path: Path) -> None:
    options = changed(FULL, environments=("crafter",), limit=1)
    (record,) = benchmarked(tmp_path, options, Lines("up", "fly", "up", "", "down", "down", "down", "down"))
    height = record.details["seed"] % 5 + 2
    actions = ["up", "down", "up", "down", "down", "down", "down", "down"][: height + 2]
    assert record.id == "crafter/default/00"
    assert record.task == "crafter/default"
    assert record.prompt.startswith("[user] Climb.\n[user] Current Observation:\nfloor 0 of ")
    assert record.details["actions"] == actions
    assert record.metrics == {
        "steps": height + 2,
        "return": 0.5 * (height + 2),
        "invalid": ([0, 1, 0, 1] + [0] * 9)[: height + 2].count(1) / (height + 2),
    }
    assert (record.answer, record.parsed) == (actions[-1] if height > 2 else "", actions[-1])


class Lines:
    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.requests: list[Request] = []

    def answer(self, requests: Sequence[Request]) -> list[str]:
        self.requests += requests
        return [self.lines.pop(0) for _ in requests]


def test_an_invalid_answer_takes_the_default_action_and_is_told_so(tmp_path: Path) -> None:
    options = changed(FULL, environments=("crafter",), limit=1)
    benchmarked(tmp_path, options, lines := Lines("fly 2!", "", *["down"] * 9))
    second, third = lines.requests[1].messages, lines.requests[2].messages
    note = "\n\nYour previous output did not contain a valid action. Defaulted to action: down\n\nObservation:\n"
    assert second[-2].role == "assistant"
    assert second[-2].text == "fly "
    assert second[-1].text.startswith(f"Current Observation:\n{note}floor -1 of ")
    # An empty answer leaves no message, but is told like the others.
    assert [message.role for message in third] == ["user", "user", "assistant", "user", "user"]
    assert third[-1].text.startswith(f"Current Observation:\n{note}floor -2 of ")


def test_an_answer_that_names_an_action_among_other_characters_is_valid(tmp_path: Path) -> None:
    options = changed(FULL, environments=("crafter",), limit=1)
    (record,) = benchmarked(tmp_path, options, lines := Lines("**down**", *["down."] * 9))
    assert record.metrics["invalid"] == 0
    assert not any("valid action" in request.messages[-1].text for request in lines.requests)
    assert lines.requests[1].messages[-2].text == "down"


def test_a_record_holds_no_more_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Stairs):
        max_steps = MAX_ACTIONS + 7

        def check(self, text: str) -> str:
            return text

        def step(self, action: str) -> tuple[Observation, float, bool, bool]:
            return Observation(""), 0.0, False, False

    monkeypatch.setattr(benchmark_module, "make", lambda environment, task, data: Endless())
    options = changed(FULL, environments=("crafter",), limit=1)
    (record,) = benchmarked(tmp_path, options, Lines(*["x" * 5000] * (MAX_ACTIONS + 7)))
    assert record.metrics["steps"] == MAX_ACTIONS + 7
    assert len(record.details["actions"]) == MAX_ACTIONS
    assert {len(action) for action in record.details["actions"]} == {200}


def record(task: str, number: int, score: float, steps: float = 1) -> Record:
    metrics = {"steps": steps, "return": 0.0, "invalid": 0.0}
    return Record(f"{task}/{number}", task, "", (), "", None, score, metrics)


def test_the_summary_is_the_official_one() -> None:
    goto, put = "babyai/BabyAI-MixedTrainLocal-v0/goto", "babyai/BabyAI-MixedTrainLocal-v0/putnext"
    records = [
        record("crafter/default", 0, 0.25, 7),
        record(put, 0, 1),
        *(record(goto, number, score) for number, score in enumerate([1, 0, 0])),
    ]
    summary = Balrog(FULL).summarize(records)
    babyai, crafter = summary["tasks"]["babyai"], summary["tasks"]["crafter"]
    assert list(summary["tasks"]) == ["babyai", "crafter"]
    # Over episodes, not over tasks, whose mean would be 66.7.
    assert babyai["score"] == 50.0
    assert babyai["standard_error"] == pytest.approx(100 * math.sqrt(0.25) / math.sqrt(4))
    assert babyai["count"] == 4
    assert (crafter["score"], crafter["standard_error"], crafter["count"]) == (25.0, 0.0, 1)
    assert crafter["metrics"] == {"steps": 7, "return": 0, "invalid": 0}
    assert summary["score"] == pytest.approx((50 + 25) / 2)
    assert summary["standard_error"] == pytest.approx(math.sqrt(25.0**2 + 0) / 2)
    assert summary["count"] == 5
    tasks_of = babyai["tasks"]
    assert list(tasks_of) == ["BabyAI-MixedTrainLocal-v0/goto", "BabyAI-MixedTrainLocal-v0/putnext"]
    assert tasks_of["BabyAI-MixedTrainLocal-v0/goto"]["score"] == pytest.approx(100 / 3)
    assert tasks_of["BabyAI-MixedTrainLocal-v0/goto"]["standard_error"] == pytest.approx(
        100 * math.sqrt((4 / 9 + 1 / 9 + 1 / 9) / 3) / math.sqrt(3)
    )
    assert summary["environments"] == ["babyai", "crafter"]
    assert summary["not_run"] == ["babaisai", "textworld", "nle", "minihack"]


def test_the_short_profile_ends_episodes_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, "crafter", replace(ENVIRONMENTS["crafter"], short_steps=3))
    options = BalrogOptions(environments=("crafter",))
    (only,) = benchmarked(tmp_path, options, Lines("down", "down", "down"))
    assert only.metrics["steps"] == 3


def test_the_identity_names_what_decides_the_records() -> None:
    identity = Balrog(FULL).identity()
    same = Balrog(changed(FULL, batch_size=3)).identity()
    assert identity == same
    others = (
        {"seed": 1}, {"agent": "cot"}, {"style": "terse"}, {"limit": 1}, {"environments": ("crafter",)},
        {"max_new_tokens": 10}, {"profile": "short"},
    )  # fmt: skip
    for other in others:
        assert Balrog(changed(FULL, **other)).identity() != identity
    assert identity["max_new_tokens"] == 9
    assert (identity["made_here"], Balrog(FULL).synthetic) == ([], False)
    assert Balrog(BalrogOptions(profile="full")).max_new_tokens == 8192
    assert identity["episodes"]["crafter/default"] == 10
    assert (identity["text_history"], identity["image_history"], identity["temperature"]) == (16, 1, 1.0)


def test_the_games_that_are_made_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "missing_packages", lambda name: [])
    monkeypatch.delenv("BOXOBAN_MAPS", raising=False)
    made = Balrog(changed(FULL, environments=("textworld", "minihack")))
    boxoban = ["minihack/MiniHack-Boxoban-Hard-v0", "minihack/MiniHack-Boxoban-Medium-v0"]
    hunts = [f"textworld/{task}" for task in ("treasure_hunter", "the_cooking_game", "coin_collector")]
    assert made.synthetic
    assert made.identity()["made_here"] == [*hunts, *boxoban]
    assert set(made.identity()["games"]) == {"treasure_hunter", "the_cooking_game", "coin_collector"}


def test_published_maps_are_part_of_the_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tasks, "missing_packages", lambda name: [])
    options = changed(FULL, environments=("minihack",))
    found = []
    for name, text in (("a", "; 0\n#\n\n"), ("b", "; 0\n#\n\n"), ("c", "; 0\n@\n\n")):
        for folder in ("hard", "medium/train"):
            (tmp_path / name / folder).mkdir(parents=True)
            (tmp_path / name / folder / "000.txt").write_text(text)
        monkeypatch.setenv("BOXOBAN_MAPS", str(tmp_path / name))
        made = Balrog(options)
        assert not made.synthetic
        found.append(made.identity())
    assert set(found[0]["games"]) == {"MiniHack-Boxoban-Hard-v0", "MiniHack-Boxoban-Medium-v0"}
    assert found[0] == found[1] != found[2]
    monkeypatch.setenv("BOXOBAN_MAPS", str(tmp_path / "nowhere"))
    with pytest.raises(BenchmarkDataError, match="nowhere/hard holds no Boxoban maps; download them"):
        Balrog(options)
    assert Balrog(changed(options, profile="short")).identity()["games"] == {}  # which plays none of them
