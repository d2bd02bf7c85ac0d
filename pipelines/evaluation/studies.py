"""`vldac study`: the study of `vldac.evaluation.study`, each cell an MLflow run below one for the whole study.

What a cell depends on is known file by file, as it is for the stages of DVC: an edit runs again the cells that it
concerns. Training knows nothing of MLflow, and goes on while that is away.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pipelines.core import errors, extensions, network
from pipelines.core.project import read_json, revision
from pipelines.core.rundir import RunIdentity
from pipelines.stages import code, data_listing
from pipelines.tracking import forwarder, runs
from vldac.config import Config
from vldac.evaluation.study import __main__ as command_line
from vldac.evaluation.study.config import Study
from vldac.evaluation.study.matrix import file_name
from vldac.evaluation.study.runs import Run, Surroundings
from vldac.utils.files import write_json
from vldac.utils.processes import GRACE, die_with_parent

_PARENT = "mlflow.parentRunId"
_KINDS = ("score", "gain")  # of an exam
_SECONDS = 30.0  # that a finished study waits for MLflow


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of `vldac.evaluation.study`, tracked."""
    network.bypass_proxy(os.environ)
    if "DVC_STAGE" in os.environ:  # started by DVC, whose end must be this process's end
        die_with_parent()
    return command_line.main(argv, Tracked(Path.cwd()))


class Tracked(Surroundings):
    """A study in a project: its code by manifest, its extensions, and a run of MLflow a cell.

    Args:
        root: the project.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._codes: dict[str, str] = {}
        self._carriers: dict[Path, forwarder.MetricsForwarder] = {}
        self._closing: list[threading.Thread] = []
        self._late: list[tuple[Study, Run, Mapping[str, Any]]] = []
        self._parents: dict[str, runs.MlflowRun] = {}
        self._lock = threading.Lock()  # of the parents, which threads of forwarders make

    def code(self, config: Config) -> str:
        """Names the files and the package versions that decide a policy and its evaluation."""
        mixture = [part.id for part in config.warm_start.mixture]
        named = json.dumps([config.env.id, mixture, config.extensions, extensions.entry_points(config)], sort_keys=True)
        if named not in self._codes:
            self._codes[named] = code.policy_digest(self._root, config)
        return self._codes[named]

    def benchmark_code(self, name: str, config: Config) -> str:
        """Names the files and the package versions that decide the records of a benchmark, and its data.

        Raises:
            UnknownBenchmarkError: there is no such benchmark.
            PipelineError: `benchmarks.data` names a folder without data.
        """
        known = [config.extensions, extensions.entry_points(config), config.benchmarks.get("data")]
        named = json.dumps([name, *known], sort_keys=True)
        if named not in self._codes:
            digest = code.benchmark_digest(self._root, config, name)
            data = json.dumps(data_listing.found(self._root, config, name), sort_keys=True, default=str)
            self._codes[named] = hashlib.sha256(f"{digest}\0{data}".encode()).hexdigest()
        return self._codes[named]

    def environment(self, config: Config) -> dict[str, str]:
        """With `extensions` on the path."""
        return extensions.environment(self._root, config)

    def about(self) -> dict[str, str]:
        """The commit, with `-dirty` where anything differs from it."""
        at = revision(self._root)
        return {"revision": at.commit + ("-dirty" if at.dirty else "")}

    def begin(self, study: Study, run: Run) -> None:
        """Starts to send the metrics of a cell."""
        where = runs.without_credentials(runs.tracking_uri(self._root))
        details = self._details(study, run)
        carrier = forwarder.MetricsForwarder(run.metrics, lambda: self._connect(study, run, details), where=where)
        self._carriers[run.home] = carrier
        carrier.start()

    def end(self, run: Run, result: Mapping[str, Any] | None) -> None:
        """Ends the run of a cell, with the scores of its evaluation; does not wait for the server."""
        carrier = self._carriers.pop(run.home, None)
        if carrier is not None:
            closing = threading.Thread(target=self._close, args=(carrier, run, result), daemon=True)
            closing.start()
            self._closing.append(closing)

    def keep(self, study: Study, run: Run, result: Mapping[str, Any]) -> None:
        """Notes a cell of which MLflow lacks something: it was away, or the study was killed, as the cell ended."""
        if not _delivered(run).exists():
            self._late.append((study, run, result))

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Waits until MLflow has everything, for a while, and ends the run of the study."""
        until = time.monotonic() + (GRACE / 3 if status == "KILLED" else _SECONDS)
        for closing in self._closing:
            closing.join(max(0.0, until - time.monotonic()))
        try:
            for study, run, result in self._late if status != "KILLED" else ():
                cell = self._connect(study, run, self._details(study, run))
                if run.metrics.exists():  # a result that was taken over has been trained elsewhere
                    cell.send(forwarder.unsent(cell.last_step(), forwarder.read_metrics(run.metrics)))
                cell.finish("FINISHED")
                self._send_scores(cell.run_id, run, result)
            for parent in self._parents.values():
                parent.finish(status)
        except Exception as error:  # noqa: BLE001  # no failure of a server, of whatever kind, may reach the study
            print(f"MLflow lacks a part of the study: {forwarder.reason(error)}", file=sys.stderr, flush=True)

    def reported(self, study: Study, placed: Sequence[Run], page: Path) -> None:
        """Attaches the tables, the figures and cells.csv to the run of the study."""
        try:
            server = runs.client(self._root)
            parent = self._parent(study, placed[0], server)
            for path in (page, page.with_name("cells.csv"), *sorted(page.parent.glob("*.png"))):
                server.log_artifact(parent, str(path), "report")
            server.set_terminated(parent, "FINISHED")
        except Exception as error:  # noqa: BLE001  # no failure of a server, of whatever kind, may reach the study
            print(f"MLflow lacks the report: {forwarder.reason(error)}", file=sys.stderr, flush=True)

    def _close(self, carrier: forwarder.MetricsForwarder, run: Run, result: Mapping[str, Any] | None) -> None:
        delivered = carrier.close("FAILED" if result is None else "FINISHED", _SECONDS)
        if result is None or not delivered or carrier.server is None:
            return
        try:
            self._send_scores(carrier.server.run_id, run, result)
        except Exception as error:  # noqa: BLE001  # likewise; the same command sends them again
            print(f"MLflow lacks an evaluation: {forwarder.reason(error)}", file=sys.stderr, flush=True)

    def _send_scores(self, run_id: str, run: Run, result: Mapping[str, Any]) -> None:
        server = runs.client(self._root)
        for name, value in result["trained"].items():
            if isinstance(value, int | float):
                server.log_metric(run_id, f"evaluation/{name}", value, step=result["environment_steps"])
        for name, value in carried(result).items():
            server.log_metric(run_id, name, value, step=result["environment_steps"])
        write_json(_delivered(run), {"mlflow_run_id": run_id})

    def _details(self, study: Study, run: Run) -> runs.RunDetails:
        cell = run.cell
        details = runs.details(self._root, cell.config)
        tags = {key: value for key, value in details.tags.items() if not key.startswith("dvc.")}
        tags |= {"study": study.name, "algorithm": cell.algorithm, "environment": cell.environment, "kind": cell.kind}
        tags |= {"seed": str(cell.seed), "ablation": cell.variant if cell.kind == "ablation" else ""}
        return replace(details, name=str(cell), tags={**tags, "grid": cell.variant if cell.kind == "grid" else ""})

    def _connect(self, study: Study, run: Run, details: runs.RunDetails) -> runs.MlflowRun:
        server = runs.client(self._root)
        parent = self._parent(study, run, server)
        return runs.MlflowRun(server, _identity(run), replace(details, tags={**details.tags, _PARENT: parent}))

    def _parent(self, study: Study, run: Run, server: Any) -> str:
        """The id of the MLflow run of a study, found again or made now."""
        model = run.cell.config.model.base
        text = json.dumps([study.model_dump(mode="json"), model], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        with self._lock:
            if key not in self._parents:
                tags = {"study": study.name, "model": model}
                details = runs.RunDetails(f"study {study.name}", tags, {"seeds": json.dumps(study.seeds)})
                identity = RunIdentity(key, key, int(time.time() * 1000))
                self._parents[key] = runs.MlflowRun(server, identity, details)
            return self._parents[key].run_id


def carried(result: Mapping[str, Any]) -> dict[str, float]:
    """What a policy scores in each exam, and how much more than its base model, as metrics of MLflow."""
    found = {}
    for name, exam in result.get("exams", {}).items():
        found[name] = exam["trained"]["success"], exam["trained"]["success"] - exam["base"]["success"]
    for name, exam in result.get("benchmarks", {}).items():
        found[name] = exam["trained"]["score"] / 100, exam["difference"]["mean"] / 100
    named = {file_name(name): values for name, values in found.items()}
    return {
        f"exam/{name}/{kind}": value for name, pair in named.items() for kind, value in zip(_KINDS, pair, strict=True)
    }


def _identity(run: Run) -> RunIdentity:
    """What ties a cell's files to its MLflow run, the same after every resume."""
    path = run.home / "run.json"
    if not path.exists():
        write_json(path, asdict(RunIdentity(uuid.uuid4().hex, run.home.name, int(time.time() * 1000))))
    return RunIdentity(**read_json(path))


def _delivered(run: Run) -> Path:
    """Is there once MLflow has all of a cell, as one study evaluates it."""
    return run.home / f"mlflow-{run.key}.json"


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
