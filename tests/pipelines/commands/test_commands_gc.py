"""`vldac gc`: what it lists, what it never touches, and that it takes the rest away."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipelines.commands import cli, dvc_cache, gc
from pipelines.core import garbage as core
from pipelines.core import rundir
from pipelines.core.errors import PipelineError
from pipelines.core.garbage import Item
from pipelines.core.project import home, read_lock
from pipelines.orchestration import garbage as prefect
from pipelines.stages import base, worktrees
from pipelines.stages import garbage as stages
from pipelines.tracking import exports, lineage, runs
from pipelines.tracking import garbage as tracking
from pipelines.tracking.exports import CONTENT
from tests.pipelines.conftest import call, commit, dvc
from vldac.config import load

DAY = 86_400.0


def item(kind: str, name: str, size: int, days: float) -> Item:
    return Item(kind, name, size, days * DAY, "", lambda: None)


def names(items: Sequence[Item]) -> list[str]:
    return [item.name for item in items]


def test_the_oldest_go_first_until_the_budget_is_kept_and_the_newest_of_each_kind_stay() -> None:
    items = [item("run", f"run{days}", 10, days) for days in (1, 40, 50, 60)]
    items += [item("checkout", "checkout70", 10, 70), item("DVC cache", "1 file", 10, 45)]
    month = gc.Policy(30 * DAY, last=0)
    assert names(gc.choose(items, month, 60)) == ["checkout70", "run60", "run50", "1 file", "run40"]
    assert names(gc.choose(items, gc.Policy(30 * DAY, last=2), 60)) == ["run60", "run50", "1 file"]
    assert names(gc.choose(items, gc.Policy(30 * DAY, last=0, budget=35), 60)) == ["checkout70", "run60", "run50"]
    assert gc.choose(items, gc.Policy(30 * DAY, last=0, budget=60), 60) == []


def test_what_is_in_use_does_not_count_towards_a_budget() -> None:
    items = [item("run", f"run{days}", 10, days) for days in (40, 50, 60)]
    chosen = gc.choose(items, gc.Policy(0.0, last=0, budget=25), 30, busy=lambda each: each.name == "run60")
    assert names(chosen) == ["run50"]


def test_a_registry_that_knows_nothing_of_the_runs_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.call(["gc"]) == 1
    assert "is no project with a dvc.yaml" in capsys.readouterr().err
    (tmp_path / "dvc.yaml").write_text("")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/train.json").write_text('{"mlflow_tracking_uri": "http://gpu1:5000"}')
    assert cli.call(["gc"]) == 1
    assert "names MLflow at http://gpu1:5000, and this is sqlite:///" in capsys.readouterr().err
    assert not (tmp_path / ".local/mlflow.db").exists()
    # A server on this machine may have this database behind it, or another one: it is asked for the run.
    about = {"mlflow_tracking_uri": "http://127.0.0.1:5000", "run_key": "abc"}
    (tmp_path / "runs/train.json").write_text(json.dumps(about))
    with pytest.raises(PipelineError, match=r"names MLflow at http://127\.0\.0\.1:5000"):
        gc._require_own_registry(tmp_path)
    assert not (tmp_path / ".local/mlflow.db").exists()


@pytest.mark.usefixtures("mlflow_database")
def test_a_registry_that_knows_the_run_is_believed_whatever_its_address(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    about = {"mlflow_tracking_uri": "http://127.0.0.1:5000", "run_key": "abc"}
    (tmp_path / "runs/train.json").write_text(json.dumps(about))
    client = runs.client(tmp_path)
    with pytest.raises(PipelineError, match="which does not know the versions there"):
        gc._require_own_registry(tmp_path)
    (experiment,) = [each for each in client.search_experiments() if each.name == runs.EXPERIMENT]
    client.create_run(experiment.experiment_id, tags={runs.RUN_KEY: "abc"})
    gc._require_own_registry(tmp_path)


def test_a_running_stage_is_known_by_its_live_process(tmp_path: Path) -> None:
    assert not dvc_cache._stage_runs(tmp_path)
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid, runs_ in ((gone.pid, False), (os.getpid(), True)):
        (tmp_path / "rwlock").write_text(json.dumps({"read": {"a": [{"pid": pid, "cmd": "dvc repro"}]}}))
        assert dvc_cache._stage_runs(tmp_path) is runs_
    (tmp_path / "rwlock").write_text(json.dumps({"write": {"a": {"pid": os.getpid(), "cmd": "dvc repro"}}}))
    assert dvc_cache._stage_runs(tmp_path)


def finished(root: Path, fingerprint: str) -> rundir.RunDirectory:
    with rundir.open_run(root / "runs", fingerprint) as run:
        (run.path / "checkpoints").mkdir()
        run.exports.mkdir()
        result = root / "runs/train.json"
        result.write_text(fingerprint)
        run.mark_complete(64, result)
    return run


def test_run_directories_go_as_far_as_nobody_needs_them(tmp_path: Path) -> None:
    sent, waiting, registered, champion, latest = (finished(tmp_path, name) for name in "abcde")
    key = {run: run.identity.run_key for run in (sent, registered, champion, latest)}
    (tmp_path / "runs/train.json").write_text(json.dumps({"run_key": key[latest]}))
    (tmp_path / "runs/mine").mkdir()
    (tmp_path / "runs/mine/notes").write_text("somebody's own")
    by_hand = tmp_path / "runs/by_hand"  # of `vldac train`: MLflow has nothing of it
    (by_hand / "checkpoints").mkdir(parents=True)
    (by_hand / "exports").mkdir()
    for name in ("run-config.json", "metrics.jsonl"):
        (by_hand / name).write_text("{}")
    needed = stages.Needed(
        run_keys=frozenset({key[registered], key[champion]}),
        untouched=frozenset({key[champion]}),
        delivered=frozenset(key.values()),
    )
    with rundir.open_run(tmp_path / "runs", "f"):
        items = {item.name: item for item in stages.run_directories(tmp_path, needed)}
        assert list(items) == [
            *("a", "b/checkpoints", "b/exports", "by_hand/checkpoints"),
            *("c/checkpoints", "c/exports", "e/checkpoints", "e/exports", "f"),
        ]
        notes: list[str] = []
        assert gc._busy(items["f"], notes)
        assert not gc._remove(items["f"], notes)
        assert len(notes) == 2
    for each in items.values():
        assert gc._remove(each, notes)
    assert not sent.path.exists()
    for kept in (waiting, registered, latest):
        assert kept.complete
        assert not (kept.path / "checkpoints").exists()
        assert not kept.exports.exists()
    assert (champion.path / "checkpoints").exists()
    assert sorted(path.name for path in by_hand.iterdir()) == ["exports", "metrics.jsonl", "run-config.json"]


@pytest.mark.usefixtures("mlflow_database")
def test_deleted_runs_and_models_go_but_for_those_of_registered_versions(tmp_path: Path) -> None:
    client = runs.client(tmp_path)
    made = [_run_with_model(client, str(number)) for number in range(3)]
    client.create_registered_model("vldac-a")
    for number, (run_id, model) in enumerate(made[:2]):
        client.create_model_version("vldac-a", f"models:/{model}", run_id, tags={CONTENT: str(number)}, model_id=model)
    client.delete_model_version("vldac-a", "2")  # its model is left behind
    for run_id, _ in (made[0], made[2]):
        client.delete_run(run_id)
    client.delete_logged_model(made[0][1])
    assert all(item.age < DAY for item in tracking.deleted(tmp_path, client, DAY))  # the rule of age keeps these
    items = list(tracking.deleted(tmp_path, client, 0.0))
    reasons = {item.name: item.reason for item in items}
    assert reasons == {
        "run run 2": "was deleted in MLflow",
        f"model {made[1][1]}": "is of no registered version any more",
        f"model {made[2][1]}": "is of no registered version any more",
    }
    assert min(item.size for item in items) > 0
    for each in items:
        each.remove()
    assert list(tracking.deleted(tmp_path, client, 0.0)) == []
    left = {path.name for path in (tmp_path / ".local/mlartifacts").glob("**/kept.txt")}
    assert left == {"kept.txt"}
    assert client.get_run(made[1][0]).info.lifecycle_stage == "active"
    (files,) = {path.parents[1].name for path in (tmp_path / ".local/mlartifacts").glob("**/models/*/artifacts/*")}
    assert files == made[0][1]


@pytest.mark.usefixtures("mlflow_database")
def test_policies_on_the_way_go_with_the_last_version_of_their_run(tmp_path: Path) -> None:
    client = runs.client(tmp_path)
    client.create_registered_model("vldac-a")
    experiment, kept = exports.experiment_id(client), {}
    for number in (1, 2, 3):
        run_id, model = _run_with_model(client, str(number))
        client.create_model_version("vldac-a", f"models:/{model}", run_id, tags={CONTENT: str(number)}, model_id=model)
        tags = {CONTENT: f"on the way {number}", "dvc.path": "models/checkpoints/update-4"}
        on_the_way = client.create_logged_model(experiment, name="Line step 4", source_run_id=run_id, tags=tags)
        kept[number] = str(client.finalize_logged_model(on_the_way.model_id, "READY").model_id)
    client.create_registered_model("by-hand")
    client.create_model_version("by-hand", f"models:/{kept[3]}", model_id=kept[3])
    for gone in ("2", "3"):
        client.delete_model_version("vldac-a", gone)
    found = [
        item for item in tracking.deleted(tmp_path, client, 0.0) if item.name.removeprefix("model ") in kept.values()
    ]
    assert [(item.name, item.reason) for item in found] == [
        (f"model {kept[2]}", "is of no registered version any more")
    ]
    found[0].remove()
    left = {model.model_id for model in client.search_logged_models([experiment])}
    assert left & set(kept.values()) == {kept[1], kept[3]}


def _run_with_model(client: MlflowClient, content: str) -> tuple[str, str]:
    experiment = exports.experiment_id(client)
    run_id = client.create_run(experiment, run_name=f"run {content}").info.run_id
    client.log_text(run_id, "kept", "kept.txt")
    model = client.create_logged_model(
        experiment, name="Line seed 0", source_run_id=run_id, tags={CONTENT: content, "dvc.path": "models/policy"}
    )
    place = Path(str(model.artifact_location).removeprefix("file://"))
    place.mkdir(parents=True)
    (place / "weights").write_bytes(bytes(5000))
    client.finalize_logged_model(model.model_id, "READY")
    return str(run_id), str(model.model_id)


def test_commits_of_a_side_that_a_merge_did_not_take_are_asked_too(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def made(text: str) -> str:
        (tmp_path / "dvc.lock").write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", text)
        return git("rev-parse", "HEAD")

    git("init", "-q", "-b", "main")
    commits = [made("base")]
    git("checkout", "-q", "-b", "feature")
    commits += [made("feature 1"), made("feature 2")]
    git("checkout", "-q", "main")
    commits.append(made("main 1"))
    git("merge", "-q", "-s", "ours", "-m", "merge", "feature")
    git("branch", "-q", "-D", "feature")
    assert set(commits) <= set(dvc_cache._commits(tmp_path))


def test_a_cache_that_others_may_use_is_not_collected(tmp_path: Path) -> None:
    project = tmp_path / "mine"
    project.mkdir()
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("dvc", "cache", "dir", "../shared")):
        module = ("git",) if command[0] == "git" else (sys.executable, "-m", "dvc")
        subprocess.run([*module, *command[1:]], cwd=project, check=True, capture_output=True)
    with pytest.raises(PipelineError, match="outside of the project"):
        list(dvc_cache.unused(project, (), 0.0))


def test_kept_base_models_go_when_they_have_not_been_of_use(tmp_path: Path) -> None:
    kept = base.directory(tmp_path) / "abc"
    (kept / "base").mkdir(parents=True)
    (kept / "base/model.safetensors").write_bytes(bytes(9000))
    (found,) = stages.bases(tmp_path)
    assert (found.kind, found.name, found.size > 9000) == ("base", "abc", True)
    with kept.with_suffix(base.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert core.in_use(*found.locks)
    found.remove()
    assert list(stages.bases(tmp_path)) == []


def test_copies_that_a_killed_upload_has_left_go_after_a_day(tmp_path: Path) -> None:
    for name, age in (("push.old", 2), ("upload.old", 2), ("push.new", 0), ("runs", 9)):
        (home(tmp_path) / name).mkdir(parents=True)
        os.utime(home(tmp_path) / name, (time.time() - age * 86_400,) * 2)
    assert [item.name for item in stages.leftovers(tmp_path)] == ["push.old", "upload.old"]


def test_a_checkout_is_not_removed_while_another_is_prepared(tmp_path: Path) -> None:
    checkout = worktrees.directory(tmp_path) / "one"
    checkout.mkdir(parents=True)
    with (worktrees.directory(tmp_path) / worktrees.LOCK).open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # of a run that waits for this checkout
        with pytest.raises(core.InUseError, match="one is kept"):
            stages._remove_checkout(tmp_path, checkout)
    assert checkout.is_dir()


def test_flow_runs_that_have_ended_long_ago_are_counted(tmp_path: Path) -> None:
    database = prefect.database_of(tmp_path)
    assert list(prefect.history(tmp_path, DAY)) == []
    database.parent.mkdir(parents=True)
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE flow_run (parent_task_run_id, state_type, end_time)")
        old, new = (time.strftime("%Y-%m-%d %H:%M:%S.0", time.gmtime(time.time() - days * DAY)) for days in (3, 0.5))
        rows = [("COMPLETED", old), ("CRASHED", old), ("RUNNING", None), ("FAILED", new)]
        connection.executemany("INSERT INTO flow_run VALUES (NULL, ?, ?)", rows)
    (found,) = prefect.history(tmp_path, DAY)
    assert found.name == "2 flow runs"
    assert found.age == pytest.approx(3 * DAY, abs=60)
    database.write_bytes(b"no database" * 100)
    with pytest.raises(PipelineError, match="cannot be read"):
        list(prefect.history(tmp_path, DAY))


def test_the_history_that_goes_is_the_projects_whatever_database_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.server.services import db_vacuum  # noqa: PLC0415  # seconds to import

    cleaned = []

    async def note(*, db: Any) -> None:
        cleaned.append(db.database_config.connection_url)

    monkeypatch.setattr(db_vacuum, "vacuum_old_flow_runs", note)
    monkeypatch.setattr(db_vacuum, "vacuum_stale_artifact_collections", note)
    for name in ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"):
        monkeypatch.setenv(name, f"sqlite+aiosqlite:///{tmp_path}/of_a_team.db")
    database = prefect.database_of(tmp_path)
    database.parent.mkdir(parents=True)
    asyncio.run(prefect._vacuum(database, DAY))
    assert cleaned == [f"sqlite+aiosqlite:///{database}"] * 2
    assert not (tmp_path / "of_a_team.db").exists()


@pytest.mark.slow
def test_what_a_registered_version_is_made_of_outlives_everything_that_goes(
    finished_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, client = finished_project, runs.client(finished_project)
    weights = read_lock(root).out("train", "models/policy")
    assert weights is not None
    run = client.create_run(exports.experiment_id(client), tags={runs.RUN_KEY: "k"})
    client.create_registered_model("vldac-a")
    tags = {"dvc.md5": weights, CONTENT: "c", "params": "{}"}
    client.create_model_version("vldac-a", "file:///nowhere", run.info.run_id, tags=tags)

    # No commit, checkout or lock names the registered weights any more, and others have been made beside them.
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("seed: 0", "seed: 5"))
    dvc("repro", "train")
    os.remove(root / "dvc.lock")
    commit("forgotten")
    call("git", "branch", "-m", "old")
    call("git", "checkout", "-q", "--orphan", "anew")
    commit("anew")
    call("git", "branch", "-D", "old")
    cache = root / ".dvc/cache/files/md5"
    before = {path for path in cache.rglob("*") if path.is_file()}
    assert cli.call(["gc", "--older-than", "0h", "--keep-last", "0", "--dry-run"]) == 0
    assert "would free" in capsys.readouterr().out
    assert {path for path in cache.rglob("*") if path.is_file()} == before

    with worktrees.prepared(root, load(root / "params.yaml", ["seed=7"])) as busy:
        lock = busy / ".dvc/tmp/rwlock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.write_text(json.dumps({"write": {"models": {"pid": os.getpid(), "cmd": "dvc repro"}}}))
        assert cli.call(["gc", "--older-than", "0h", "--keep-last", "0"]) == 0
        assert {path for path in cache.rglob("*") if path.is_file()} == before
        lock.unlink()
        assert cli.call(["gc", "--older-than", "0h", "--keep-last", "0"]) == 0
        assert busy.exists()
    printed = capsys.readouterr().out
    assert f"a stage of DVC runs in {busy}; run this again" in printed
    assert f"kept: checkout {busy.name}: " in printed
    left = {path for path in cache.rglob("*") if path.is_file()}
    assert left < before
    assert lineage.cached_hash(cache, weights, "policy") is not None
    assert cli.call(["gc", "--older-than", "0h", "--keep-last", "0"]) == 0
    assert not busy.exists()
    assert not list(worktrees.directory(root).glob(".trash*"))
