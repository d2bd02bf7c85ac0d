from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.suites.balrog import tasks
from benchmarks.suites.balrog.play import sampling_seed
from benchmarks.suites.balrog.tasks import ENVIRONMENTS, chosen, first_seed, make, plan
from envs import base
from envs.base import MissingSimulatorError, UnknownEnvError


@pytest.fixture(autouse=True)
def two_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "missing_packages", lambda name: [] if name in ("babyai", "crafter") else [name])


def test_the_full_protocol_has_255_episodes_and_its_tasks_and_the_short_one_few() -> None:
    episodes = plan(tuple(ENVIRONMENTS), "full", None, 0)
    counts = {name: sum(episode.environment == name for episode in episodes) for name in ENVIRONMENTS}
    assert counts == {"nle": 5, "crafter": 10, "minihack": 40, "babyai": 50, "babaisai": 120, "textworld": 30}
    assert len({episode.id for episode in episodes}) == 255
    assert {name: len(set(spec.tasks)) for name, spec in ENVIRONMENTS.items()} == {
        "nle": 1, "crafter": 1, "minihack": 8, "babyai": 5, "babaisai": 40, "textworld": 3
    }  # fmt: skip
    assert all(set(spec.short_tasks) <= set(spec.tasks) for spec in ENVIRONMENTS.values())
    short = plan(tuple(ENVIRONMENTS), "short", None, 0)
    assert len(short) == len({(episode.environment, episode.task) for episode in short}) == 11
    assert len(plan(("crafter",), "short", 3, 0)) == 3


def test_seeds_are_of_the_task_and_the_benchmark_alone_and_follow_each_other() -> None:
    many, one = plan(("babyai", "crafter"), "full", None, 7), plan(("crafter",), "full", 2, 7)
    assert one == [episode for episode in many if episode.environment == "crafter"][:2]
    assert [episode.seed for episode in one] == [first_seed(7, "crafter", "default") + n for n in range(2)]
    assert plan(("crafter",), "full", 2, 8)[0].seed != one[0].seed
    assert sampling_seed(one[0], 0) != sampling_seed(one[0], 1) != sampling_seed(one[1], 0)
    assert first_seed(0, "crafter", "default") == 0x7FFFFFFF & (
        int(hashlib.sha256(b"0/crafter/default").hexdigest()[:8], 16) >> 1
    )


def test_what_is_not_installed_or_not_known_is_one_line() -> None:
    assert chosen(()) == ("babyai", "crafter")
    with pytest.raises(MissingSimulatorError, match=r"BALROG's nle needs the package 'nle'.*: make setup$"):
        chosen(("nle",))
    with pytest.raises(MissingSimulatorError, match=r"babaisai.*github\.com/nacloos/baba-is-ai \(it is not on PyPI\)"):
        make("babaisai", "env/goto_win")
    with pytest.raises(UnknownEnvError, match=r"no environment 'baby'; choose from babyai"):
        chosen(("baby",))
    with pytest.raises(UnknownEnvError, match=r"crafter has no task 'defualt'; choose default"):
        make("crafter", "defualt")


def test_away_from_a_checkout_no_message_names_a_target_of_make(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(base, "__file__", str(tmp_path / "envs/base.py"))
    monkeypatch.setattr(tasks, "missing_packages", lambda name: [name])
    for names in ((), *((name,) for name in tasks.ENVIRONMENTS)):
        with pytest.raises(MissingSimulatorError, match=r"installed: pip install,? \S") as error:
            chosen(names)
        assert "make " not in str(error.value)
    with pytest.raises(MissingSimulatorError, match=r"pip install --no-deps nle minihack$"):
        chosen(("minihack",))


def test_nothing_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "missing_packages", lambda name: [name])
    with pytest.raises(MissingSimulatorError, match="no environment of BALROG is installed"):
        chosen(())
