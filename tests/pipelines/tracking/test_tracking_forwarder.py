"""The forwarder against servers that come and go, and the files that it reads."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pipelines.core import rundir
from pipelines.core.errors import PipelineError
from pipelines.core.rundir import RunIdentity
from pipelines.tracking import runs
from pipelines.tracking.forwarder import MetricsFile, MetricsForwarder, Row, read_metrics
from pipelines.tracking.runs import MlflowRun, RunDetails, without_credentials

IDENTITY = RunIdentity(run_key="0123", fingerprint="abcd", started_ms=1_000_000)
DETAILS = RunDetails(name="a run", tags={"env": "X"}, params={"seed": "0", "train.gamma": "0.9"})


class FakeServer:
    """A tracking server in memory; while it is away every method raises."""

    run_id = "fake"

    def __init__(self) -> None:
        self.away = False
        self.replies_lost = 0  # requests that arrive, but whose reply does not
        self.steps: list[int] = []
        self.status: str | None = None

    def _answer(self) -> None:
        if self.away:
            raise ConnectionError("Connection refused")

    def connect(self) -> FakeServer:
        self._answer()
        return self

    def last_step(self) -> int:
        self._answer()
        return max(self.steps, default=-1)

    def send(self, rows: Sequence[Row]) -> None:
        self._answer()
        self.steps += [row["environment_steps"] for row in rows]
        if self.replies_lost:
            self.replies_lost -= 1
            raise TimeoutError("timed out")

    def finish(self, status: str) -> None:
        self._answer()
        self.status = status


def write(path: Path, steps: Sequence[int], mode: str = "a", time_s: float = 1.5) -> None:
    with path.open(mode) as file:
        for step in steps:
            file.write(
                json.dumps({"update": step // 10, "environment_steps": step, "time_s": time_s, "a/b": 1.0}) + "\n"
            )


def until(condition: Callable[[], bool]) -> None:
    """Waits for what a thread does; a minute is far beyond what it takes."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def forwarder(metrics: Path, server: FakeServer, said: list[str]) -> Iterator[MetricsForwarder]:
    made = MetricsForwarder(
        metrics, server.connect, where="http://there", interval=0.005, max_delay=0.01, log=said.append
    )
    made.start()
    yield made
    made.close("KILLED")


def test_metrics_arrive_while_training_goes_on(
    metrics: Path, server: FakeServer, forwarder: MetricsForwarder, said: list[str]
) -> None:
    write(metrics, [10, 20])
    until(lambda: server.steps == [10, 20])
    write(metrics, [30])
    until(lambda: server.steps == [10, 20, 30])

    assert forwarder.close("FINISHED")
    assert server.status == "FINISHED"
    assert said == []


def test_a_server_that_is_away_loses_nothing_and_says_so_once(
    metrics: Path, server: FakeServer, forwarder: MetricsForwarder, said: list[str]
) -> None:
    write(metrics, [10])
    until(lambda: server.steps == [10])
    server.away = True
    write(metrics, [20, 30])
    until(lambda: len(said) == 1)
    write(metrics, [40])
    server.away = False
    until(lambda: server.steps == [10, 20, 30, 40])
    until(lambda: len(said) == 2)

    assert "is away" in said[0]
    assert str(metrics) in said[0]
    assert "is back" in said[1]


def test_a_server_that_is_away_from_start_to_end_stops_nothing(
    metrics: Path, server: FakeServer, forwarder: MetricsForwarder, said: list[str]
) -> None:
    server.away = True
    write(metrics, [10])

    assert not forwarder.close("FINISHED")
    assert server.steps == []
    assert len(said) == 1


def test_a_lost_reply_doubles_nothing(metrics: Path, server: FakeServer, forwarder: MetricsForwarder) -> None:
    server.replies_lost = 1
    write(metrics, [10, 20])
    until(lambda: server.steps == [10, 20] and not server.replies_lost)
    write(metrics, [30])

    assert forwarder.close("FINISHED")
    assert server.steps == [10, 20, 30]


def test_a_resumed_run_that_writes_its_last_rows_again_doubles_nothing(
    metrics: Path, server: FakeServer, forwarder: MetricsForwarder
) -> None:
    write(metrics, [10, 20, 30])
    until(lambda: server.steps == [10, 20, 30])
    write(metrics, [10], mode="w")
    write(metrics, [20, 30, 40], time_s=99.25)

    assert forwarder.close("FINISHED")
    assert server.steps == [10, 20, 30, 40]


def test_a_line_is_read_when_it_is_complete(metrics: Path) -> None:
    file = MetricsFile(metrics)
    assert file.read() == []
    metrics.write_text('{"environment_steps": 1}\n{"environment_st')
    assert [row["environment_steps"] for row in file.read()] == [1]
    with metrics.open("a") as end:
        end.write('eps": 2}\n')
    assert [row["environment_steps"] for row in file.read()] == [2]
    assert file.read() == []


@pytest.mark.parametrize("grown", [[20], [20, 30, 40, 50, 60]], ids=["shorter", "longer than before"])
def test_a_file_that_was_cut_back_is_read_from_its_start(metrics: Path, grown: list[int]) -> None:
    file = MetricsFile(metrics)
    write(metrics, [10, 20, 30])
    file.read()
    write(metrics, [10], mode="w")
    write(metrics, grown, time_s=7.125)

    assert [row["environment_steps"] for row in file.read()] == [10, *grown]


def test_a_damaged_line_is_passed_over(metrics: Path) -> None:
    metrics.write_text('{"environment_steps": 1}\nnot json\n{"no": "steps"}\n{"environment_steps": 2}\n')
    assert [row["environment_steps"] for row in read_metrics(metrics)] == [1, 2]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000/path?token=x#y", "http://host:5000/path"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("sqlite:////a b%20#x/mlflow.db", "sqlite:////a b%20#x/mlflow.db"),
        ("postgresql://me:secret@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://me:aB/cD+eF@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("postgresql://me:a#b?c[d@db/mlflow?sslmode=require", "postgresql://db/mlflow"),
        ("http://host/path?user=a@b", "http://host/path"),
    ],
)
def test_no_credentials_are_shown(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown


def test_why_a_server_cannot_be_used_names_no_password() -> None:
    error = ConnectionError("API request to http://me:secret@host/api failed: 500")
    assert runs.reason(error) == "API request to http://host/api failed: 500"
    error = ConnectionError("could not open postgresql://me:aB/cD@db/mlflow")
    assert runs.reason(error) == "could not open postgresql://db/mlflow"


def test_an_error_of_the_server_is_one_line_and_a_bug_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    line = r"^MLflow at http://127.0.0.1:1 cannot be used: it cannot be reached;"
    with pytest.raises(PipelineError, match=line), runs.reachable(tmp_path):
        runs.client(tmp_path)
    with pytest.raises(KeyError), runs.reachable(tmp_path):
        raise KeyError("a bug")


def test_a_full_disk_is_not_blamed_on_the_server(tmp_path: Path) -> None:
    line = r"^records.jsonl: No space left on device; free some space and run the same command again$"
    with pytest.raises(PipelineError, match=line), runs.reachable(tmp_path):
        raise OSError(28, "No space left on device", "records.jsonl")
    with pytest.raises(PipelineError, match=r"^MLflow at .* run the same command again"), runs.reachable(tmp_path):
        raise ConnectionRefusedError("refused")


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_database")
def test_a_resumed_training_goes_on_in_its_mlflow_run(tmp_path: Path) -> None:
    client = runs.client(tmp_path)
    first = MlflowRun(client, IDENTITY, DETAILS)
    first.send([{"environment_steps": 10, "time_s": 1.0, "a/b": 0.5, "text": "x", "nan": float("nan")}])
    first.finish("FAILED")

    again = MlflowRun(client, IDENTITY, DETAILS)
    assert again.run_id == first.run_id
    assert again.last_step() == 10
    again.send([{"environment_steps": 20, "time_s": 2.0, "a/b": 0.75, "warnings": ["no success"]}])
    again.send([{"environment_steps": 20, "time_s": 2.0, "a/b": 0.75}])  # as after a lost reply
    again.finish("FINISHED")

    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == DETAILS.params
    assert run.data.tags[runs.RUN_KEY] == IDENTITY.run_key
    assert run.data.tags[runs.WARNING] == "no success"
    history = client.get_metric_history(first.run_id, "a/b")
    assert [(m.step, m.value, m.timestamp) for m in history] == [(10, 0.5, 1_001_000), (20, 0.75, 1_002_000)]
    assert MlflowRun(client, RunIdentity("other", "abcd", 0), DETAILS).run_id != first.run_id


@pytest.mark.usefixtures("mlflow_database")
def test_runs_whose_processes_are_gone_are_shown_as_killed(tmp_path: Path) -> None:
    client, directory = runs.client(tmp_path), tmp_path / "runs"
    with rundir.open_run(directory, "gone") as gone:
        pass
    with rundir.open_run(directory, "done") as done:
        done.metrics.write_text("")
        done.mark_complete(10, done.metrics)  # its metrics may be on their way yet
    with rundir.open_run(directory, "works") as works:
        known = [gone.identity, done.identity, works.identity, RunIdentity("elsewhere", "abcd", 0)]
        ids = [MlflowRun(client, identity, DETAILS).run_id for identity in known]
        assert runs.mark_stopped(client, directory) == [DETAILS.name]
        assert [client.get_run(each).info.status for each in ids] == ["KILLED", "RUNNING", "RUNNING", "RUNNING"]
        assert runs.mark_stopped(client, directory) == []
    assert MlflowRun(client, gone.identity, DETAILS).run_id == ids[0]  # resumed
    assert client.get_run(ids[0]).info.status == "RUNNING"


@pytest.mark.usefixtures("mlflow_database")
def test_a_row_of_more_metrics_than_one_request_takes_is_sent_whole(tmp_path: Path) -> None:
    run = MlflowRun(runs.client(tmp_path), IDENTITY, DETAILS)
    run.send([{"environment_steps": step, **{f"m/{i}": float(i) for i in range(700)}} for step in (1, 2, 3)])

    metrics = runs.client(tmp_path).get_run(run.run_id).data.metrics
    assert len([key for key in metrics if key.startswith("m/")]) == 700
    assert run.last_step() == 3


@pytest.mark.slow
def test_first_use_by_several_processes_at_once(tmp_path: Path) -> None:
    code = "import sys, pathlib; from pipelines.tracking import runs; runs.client(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(p.communicate()[1], p.returncode) for p in started] == [("", 0)] * 3


@pytest.mark.slow
def test_a_real_server_that_goes_and_comes_back_has_every_step_once(
    tmp_path: Path, metrics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = f"sqlite:///{tmp_path / 'server.db'}"
    options = ["--backend-store-uri", store, "--default-artifact-root", str(tmp_path / "artifacts"), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), *options]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # as `vldac serve` does
    said: list[str] = []
    forwarder = MetricsForwarder(
        metrics,
        lambda: MlflowRun(runs.client(tmp_path), IDENTITY, DETAILS),
        where="there",
        interval=0.2,
        max_delay=0.5,
        log=said.append,
    )
    write(metrics, [10, 20])
    forwarder.start()
    until(lambda: len(said) == 1)  # it starts before its server does
    server = _serve(command)
    until(lambda: len(said) == 2)
    _kill(server)
    write(metrics, [30])
    until(lambda: len(said) == 3)
    server = _serve(command)
    write(metrics, [40])
    until(lambda: len(said) == 4)

    assert forwarder.close("FINISHED")
    client = runs.client(tmp_path)
    run = runs.find_run(client, IDENTITY.run_key)
    assert run is not None
    history = client.get_metric_history(run.info.run_id, "a/b")
    assert sorted(metric.step for metric in history) == [10, 20, 30, 40]
    _kill(server)


def _serve(command: Sequence[str]) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)


def _kill(server: subprocess.Popen[bytes]) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
