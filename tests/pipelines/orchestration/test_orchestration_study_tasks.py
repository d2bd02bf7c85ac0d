"""The task of a study: its command, its log, its failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from pipelines.orchestration import artifacts, flows, study_tasks
from pipelines.stages.repro import StageError
from tests.pipelines.conftest import REPOSITORY


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of processes, which print a line and fail for the profile `laptop`."""
    started: list[list[str]] = []

    def stream(command: list[str], on_line: Callable[[str], None], **_: Any) -> int:
        started.append(command[1:])
        on_line("error: no disk; free some" if "laptop" in command else "smoke: 4 cells")
        return int("laptop" in command)

    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(study_tasks.repro.processes, "stream", stream)
    monkeypatch.setattr(study_tasks, "get_run_logger", lambda: logging.getLogger("study"))
    return started


def test_the_command_is_the_one_that_a_person_types(
    commands: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "study"):
        assert study_tasks.run_study.fn("smoke", "", 0) == Path("results/study/smoke")
    assert "smoke: 4 cells" in caplog.text
    study_tasks.run_study.fn("smoke", "org/model", 3)
    module = ["-m", "pipelines.evaluation.studies", "smoke"]
    assert commands == [module, [*module, "--model", "org/model", "--jobs", "3"]]


def test_a_failure_is_the_line_that_the_study_printed(commands: list[list[str]]) -> None:
    with pytest.raises(StageError, match="no disk; free some"):
        study_tasks.run_study.fn("laptop", "", 0)
    assert len(commands) == 1


def test_the_page_shows_the_report_and_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(artifacts, "markdown", lambda key, text, _: shown.append((key, text)))
    monkeypatch.setattr(artifacts, "picture", lambda path, key: shown.append((key, path.name)))
    (tmp_path / "report.md").write_text("# page")
    (tmp_path / "curves.png").touch()
    study_tasks.show(tmp_path)
    assert shown == [("study", "# page"), ("study-curves", "curves.png")]


def test_the_flow_takes_a_hub_id_and_refuses_what_is_no_profile() -> None:
    given = {"profile": "laptop", "model": "Qwen/Qwen2-VL-7B-Instruct", "jobs": 2}
    assert flows.study.validate_parameters(given) == given
    with pytest.raises(ParameterTypeError, match="profile"):
        flows.study.validate_parameters({"profile": "--help"})
