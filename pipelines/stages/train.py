"""Stage `train`: VL-DAC from the base model, resumed where an earlier attempt stopped, tracked in MLflow.

Training itself is a child process that knows nothing of MLflow; this process watches over it, forwards what it writes,
and turns its run directory into the stage's results.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.core import errors, extensions, rundir
from pipelines.core.project import content_hash, read_lock, stage_inputs, workspace
from pipelines.stages.common import arguments, require, run_module
from pipelines.tracking import forwarder, runs
from vldac.config import Config, load
from vldac.utils.files import write_json
from vldac.utils.processes import GRACE

#: Columns of a learning curve, of the episodes that began in an update and of its responses. A run on the same machine
#: gives the same values again, so there are no timings.
MEANS = ("episode/success", "episode/return", "episode/length")
EPISODES = ("episode/count", *MEANS)
#: Success over the last episodes that compare fairly, and how many they are: what the terminal shows.
RECENT = ("episode/success_last_100", "episode/success_last_100_count")
RESPONSES = ("rollout/invalid_actions", "rollout/response_tokens")
#: Share of a run whose mean is reported as its end.
TAIL = 0.1
_RESULT = "runs/train.json"  # names the run, so that no other run's is alike


def main(argv: Sequence[str] | None = None) -> int:
    """Writes models/policy, models/checkpoints, metrics/train.json, plots/learning_curve.csv and runs/train.json."""
    options = arguments(argv, __doc__)
    root: Path = options.root
    config = load(root / options.params)

    def recorded() -> str | None:
        return read_lock(root).out("train", _RESULT) if (root / "dvc.lock").exists() else None

    with rundir.open_run(workspace(root) / "runs", fingerprint(root, config), recorded) as run:
        carrier = _forwarder(root, config, run)
        carrier.start()
        status = "FAILED"
        try:
            _train(root, options.params, config, run)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            delivered = carrier.close(status, timeout=30.0 if status == "FINISHED" else GRACE / 3)
        collect_exports(root / "models/checkpoints", config, run)
        rows = forwarder.read_metrics(require(run.metrics))
        write_curve(root / "plots/learning_curve.csv", rows, read_lines(run.path / "episodes.jsonl"))
        write_json(root / "metrics/train.json", summary(rows))
        write_json(
            root / _RESULT,
            {
                "run_key": run.identity.run_key,
                "fingerprint": run.identity.fingerprint,
                "started_ms": run.identity.started_ms,
                "mlflow_run_id": carrier.server.run_id if delivered and carrier.server else None,
                "mlflow_tracking_uri": runs.without_credentials(runs.tracking_uri(root)),
            },
        )
        run.mark_complete(int(rows[-1]["environment_steps"]), root / _RESULT)
    return 0


def fingerprint(root: Path, config: Config) -> str:
    """Names the run directory: a checkpoint is only ever resumed by the code, data and parameters that wrote it."""
    inputs = stage_inputs(root, "train")
    every = config.checkpoint.export_every  # decides no weight, but a run cannot export what it has gone past
    extra = [f"export_every {every}"] if every else []
    return config.fingerprint(content_hash(root / "models/base"), content_hash(*inputs), *extra)


def _train(root: Path, params: Path, config: Config, run: rundir.RunDirectory) -> None:
    policy = root / "models/policy"
    policy.parent.mkdir(parents=True, exist_ok=True)
    run_module(
        "vldac.train",
        *("--params", params),
        *("--base", root / "models/base"),
        *("--run-dir", run.path),
        *("--out", policy),
        root=root,
        env=extensions.environment(root, config),
    )
    require(policy)


def collect_exports(out: Path, config: Config, run: rundir.RunDirectory) -> None:
    """Copies what the run exported, with an index, so that the directory is there even if nothing was exported.

    Raises:
        PipelineError: an export is missing.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    index = []
    last = len(read_lines(run.metrics))  # a run may end before its time, see train.stop_at
    for update in (each for each in config.exported_updates if each < last):
        name = f"update-{update:06d}"
        shutil.copytree(require(run.exports / name), out / name)
        index.append({"path": name, "update": update, "environment_steps": update * config.steps_per_update})
    write_json(out / "index.json", {"checkpoints": index})


def _forwarder(root: Path, config: Config, run: rundir.RunDirectory) -> forwarder.MetricsForwarder:
    about = runs.details(root, config)

    def connect() -> runs.MlflowRun:
        client = runs.client(root)
        runs.mark_stopped(client, run.path.parent)
        return runs.MlflowRun(client, run.identity, about)

    return forwarder.MetricsForwarder(
        run.metrics,
        connect,
        where=runs.without_credentials(runs.tracking_uri(root)),
    )


def write_curve(path: Path, rows: Sequence[forwarder.Row], episodes: Sequence[Mapping[str, Any]]) -> None:
    """Writes the learning curve as CSV, one line an update; what an update does not have stays empty.

    Of the episodes that began in the last updates, only the quick ones have ended, and those are mostly successes. An
    update therefore has means only if every episode that began in it has ended. Episodes that an expert began are not
    of the policy's doing alone, and are left out.

    Args:
        path: of the CSV.
        rows: of metrics.jsonl; "episode/complete_until" of the last one says which episodes have all ended.
        episodes: of episodes.jsonl, each in the line of the update in which it began.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("environment_steps", *EPISODES, *RESPONSES), extrasaction="ignore")
        writer.writeheader()
        own = [episode for episode in episodes if not episode.get("assisted", False)]
        start, complete = 0, int(rows[-1].get("episode/complete_until", 0)) if rows else 0
        for row in rows:
            end = int(row["environment_steps"])
            begun = [episode for episode in own if start <= episode["began"] < end <= complete]
            line = {"environment_steps": end, **{name: row[name] for name in RESPONSES if name in row}}
            line["episode/count"] = len(begun)
            if begun:
                for name in ("success", "return", "length"):
                    line[f"episode/{name}"] = sum(float(episode[name]) for episode in begun) / len(begun)
            writer.writerow(line)
            start = end


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every object of a JSON Lines file that is complete."""
    return [json.loads(line) for line in require(path).read_text(encoding="utf-8").splitlines()]


def summary(rows: Sequence[forwarder.Row]) -> dict[str, Any]:
    """Where a run ended: means over the last tenth of its updates.

    Those of episodes are of the "episode_count" ones that became comparable in these updates, each with the same
    weight. The success of the last episodes is that of the last update.

    Raises:
        PipelineError: there is no update.
    """
    if not rows:
        raise errors.PipelineError("training wrote no update; delete its directory under runs/ and run again")
    last = rows[-max(1, round(TAIL * len(rows))) :]
    means: dict[str, Any] = {"environment_steps": int(rows[-1]["environment_steps"]), "updates": len(rows)}
    means["episode_count"] = sum(int(row.get("episode/count", 0)) for row in last)
    for name in (*MEANS, *RESPONSES):
        pairs = [
            (float(row[name]), float(row.get("episode/count", 0)) if name in MEANS else 1.0)
            for row in last
            if row.get(name) is not None
        ]
        if total := sum(weight for _, weight in pairs):
            means[name.replace("/", "_")] = sum(value * weight for value, weight in pairs) / total
    means |= {name.replace("/", "_"): rows[-1][name] for name in RECENT if name in rows[-1]}
    return means


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
