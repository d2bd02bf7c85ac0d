"""The Prefect flows: what runs when, retried how, and what a person sees of it.

DVC decides whether a stage has anything to do and what its result is; a task here wraps one `dvc repro --single-item`.
Registration and promotion are tasks of their own, idempotent on the content of the weights. What only Prefect's pages
need is never a reason to fail: a run continues, and keeps its results, while the Prefect server is away.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run
from pydantic import Field

from benchmarks.harness import section
from benchmarks.harness.options import Profile as BenchmarkProfile
from pipelines.core import tables
from pipelines.core.errors import PipelineError, explain
from pipelines.core.project import read_json, workspace
from pipelines.evaluation import comparison, versions
from pipelines.orchestration import (
    approval,
    artifacts,
    benchmark_tasks,
    forms,
    notifications,
    readable,
    study_tasks,
    worker,
)
from pipelines.orchestration.live import LiveProgress
from pipelines.stages import base_files, code, worktrees
from pipelines.stages.repro import StageError, repro, resumable
from pipelines.tracking import registry, runs
from pipelines.tracking.benchmark_scores import Name as Benchmark
from pipelines.tracking.forwarder import reason
from vldac.config import Config, ConfigError, load
from vldac.utils import processes

readable.install()

Step = Literal["environment", "base", "train", "register", "evaluate", "benchmark", "promote"]
STEPS: tuple[Step, ...] = ("environment", "base", "train", "register", "evaluate", "benchmark", "promote")

# Prefect's form takes each parameter's type, default and bounds from here, its description from the docstring. "" and 0
# stand for "not given": for `str | None` the form shows a switch between two types.
Model = Annotated[str, Field(pattern=r"^(vldac-[a-z0-9._-]+)?$")]
Selector = Annotated[str, Field(pattern=r"^(@?[A-Za-z][A-Za-z0-9_-]*|[1-9][0-9]*)$")]
PARAMS_FILE = r"^([A-Za-z0-9._/-]+\.yaml)?$"
ParamsFile = Annotated[str, Field(pattern=PARAMS_FILE)]
Preset = Annotated[str, Field(json_schema_extra={"enum": list(forms.preset_names())})]
Override = Annotated[str, Field(pattern=forms.override_pattern())]
BenchmarkOption = Annotated[str, Field(pattern=forms.option_pattern())]
Episodes = Annotated[int, Field(ge=0, le=100_000)]
Profile = Literal["", BenchmarkProfile]
StudyProfile = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
StartingModel = Annotated[str, Field(pattern=r"^([A-Za-z0-9._/-]+)?$")]
Jobs = Annotated[int, Field(ge=0, le=1024)]


@dataclass(frozen=True)
class Outcome:
    """What a run of `train_pipeline` came to.

    Attributes:
        summary: metrics/summary.json, if the run took that step.
        benchmarks: by model, the summaries of its benchmarks, if the run took that step.
        registered: the version of these weights, if the run registered them.
        promotion: what became of the candidate, if the run promoted.
        registry_error: why the registry could not be used; nothing else depends on it.
        root: the project, or the checkout of it, that holds the results.
    """

    summary: dict[str, Any] | None = None
    benchmarks: dict[str, list[dict[str, Any]]] | None = None
    registered: registry.Registered | None = None
    promotion: registry.Promotion | None = None
    registry_error: str | None = None
    root: Path = Path()


def _die_with_worker() -> None:
    """Ties a run that a worker started to that worker: once the worker is gone, nobody could cancel the run."""
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        processes.die_with_parent()


def _overtaken() -> bool:
    """Whether a worker started this run late, and its schedule has a later one that is due."""
    with _tolerate_server_errors():
        return "PREFECT__FLOW_RUN_ID" in os.environ and worker.overtaken(UUID(flow_run.get_id()), datetime.now(UTC))
    return False


@contextmanager
def _tolerate_server_errors() -> Iterator[None]:
    """A context for what only Prefect's pages show: a server that cannot be reached is a line in the log."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever the client raises, the results are there
        get_run_logger().warning("not all of this run is shown on its page: %s", reason(error))


@task(task_run_name="{name}", retries=1, retry_delay_seconds=2, retry_condition_fn=resumable, persist_result=False)
def stage(name: str, *, force: bool) -> bool:
    """One DVC stage; see `repro`. A second attempt of training resumes from its last checkpoint."""
    log, root = get_run_logger(), Path.cwd()
    live = LiveProgress(root, load("params.yaml"), log.warning) if name == "train" else nullcontext()
    with live:
        ran = repro(root, name, lambda line: log.info("%s", line), force=force)
    if not ran:
        log.info("%s: up to date", name)
    return ran


@task(task_run_name="register", persist_result=False)
def register() -> registry.Registered:
    """See `registry.register`."""
    log = get_run_logger()
    done = registry.register(Path.cwd(), load("params.yaml"))
    log.info("register: %s version %s %s", done.name, done.version, "made" if done.new else "holds these weights")
    return done


@task(task_run_name="promote", persist_result=False)
def promote(*, ask: bool = False) -> registry.Promotion:
    """See `registry.promote`. Where a person is to be asked, `promote_model` does it: this run would hold a device."""
    done = registry.promote(Path.cwd(), load("params.yaml"), dry_run=ask)
    _log_promotion(done, dry_run=ask)
    if ask and done.decision.promote:
        with _tolerate_server_errors():
            text = (
                f"{done.decision.reason}. Run promote-model/promote with version {done.registered.version} and `ask`."
            )
            notifications.say(notifications.ASKED, done.registered.name, f"a candidate: {done.registered.name}", text)
    return done


def _log_promotion(done: registry.Promotion, *, dry_run: bool) -> None:
    if done.decision.promote and dry_run:
        what = f"version {done.registered.version} would become @{registry.CHAMPION}"
    elif done.champion is None:
        what = f"version {done.registered.version} does not become @{registry.CHAMPION}"
    else:
        what = f"version {done.champion} {'is now' if done.decision.promote else 'is'} @{registry.CHAMPION}"
    get_run_logger().info("promote: %s (%s)", what, done.decision.reason)
    if done.decision.promote and not dry_run:
        with _tolerate_server_errors():
            text = f"{done.registered.name}: {what}. {done.decision.reason}"
            notifications.say(
                notifications.PROMOTED, done.registered.name, f"new champion: {done.registered.name}", text
            )


@flow(name="train-pipeline", persist_result=False, validate_parameters=True)
def train_pipeline(
    params_file: ParamsFile = "",
    presets: list[Preset] = [],  # noqa: B006  # shown in the form, never changed
    overrides: list[Override] = [],  # noqa: B006  # likewise
    steps: Annotated[list[Step], Field(min_length=1)] = list(STEPS),  # noqa: B006  # likewise
    *,
    force: bool = False,
    ask: bool = False,
) -> Outcome:
    """Runs the pipeline from the environment to promotion; what is up to date is kept.

    Args:
        params_file: Params file of the project, such as conf/numberline.yaml. Empty: params.yaml.
        presets: Sections that are taken from conf/ instead.
        overrides: Changes to it, such as seed=3 or train.gamma=0.95. With any of these three, the run works in a
            checkout of its own and leaves params.yaml and the results of others as they are.
        steps: Steps to take. They run in the order of the default, whatever the order here.
        force: Run the stages among them even if they are up to date.
        ask: Let no version become champion without a person: promote-model asks.
    """
    _die_with_worker()
    changes = [*presets, *overrides]
    with worktrees.enter(Path.cwd(), params_file or "params.yaml", changes) as root:  # a wrong value stops here
        return _train(root, steps, force=force, ask=ask)


def _begin(root: Path, config: Config, steps: Collection[Step]) -> None:
    """Runs what every other stage depends on, and checks that what is registered is of these parameters.

    Raises:
        PipelineError: params.yaml has changed since the stages ran, of which none is to run.
    """
    made = load(root / "config.yaml") if (root / "config.yaml").exists() else config
    if {"register", "promote"} & set(steps) and "train" not in steps:  # looked at before `environment` writes it anew
        evaluated = "evaluate" in steps or made.evaluate == config.evaluate
        if made.deciding() != config.deciding() or not evaluated:
            raise PipelineError("params.yaml has changed since models/policy was made; run the stages first: vldac run")
    base_files.link(root, config)  # DVC stops at a link that leads nowhere any more
    if not set(steps) <= {"register", "promote"}:
        stage("code", force=code.has_changed(root, config))  # DVC does not see the versions of installed packages
        if "environment" not in steps:
            stage("environment", force=False)  # which gives the others the parameters as they are now


def _train(root: Path, steps: list[Step], *, force: bool, ask: bool = False) -> Outcome:
    config, log = load("params.yaml"), get_run_logger()
    section.parse(config.benchmarks)  # wrong options stop here too
    name = f"{config.env.id} {config.train.algorithm} seed {config.seed}"
    with _tolerate_server_errors():
        artifacts.name_run(name)
    if root != workspace(root):
        log.info("in %s, a checkout with parameters of its own", root.relative_to(workspace(root)))
    registered = promotion = error = None
    failed: dict[str, str] = {}
    _begin(root, config, steps)
    wanted = [name for name in STEPS if name in steps]
    for number, step in enumerate(wanted, start=1):
        log.info("stage %d of %d: %s", number, len(wanted), step)
        try:
            if step == "register":
                registered = register()
                with _tolerate_server_errors():
                    artifacts.name_run(f"{name} v{registered.version}")
            elif step == "promote":
                promotion = promote(ask=ask) if error is None else None
            elif step == "benchmark":
                failed = benchmark_tasks.run_stages(stage, root, config, force=force)
            else:
                stage(step, force=force)
            if step == "evaluate" and "benchmark" in steps:  # what follows may take longer than all before
                found = read_json(Path("metrics/summary.json"))
                log.info("%s", tables.text(found, acts=tables.base_acts(config.model_dump())))
        except StageError:
            raise
        except PipelineError as failure:  # the registry is away: what was trained is still worth an evaluation
            error = str(failure)
            log.warning("%s: %s", step, error)
    summary = read_json(Path("metrics/summary.json")) if "evaluate" in steps else None
    scores = benchmark_tasks.finished(root, failed) if "benchmark" in steps else None
    outcome = Outcome(summary, scores, registered, promotion, error, root)
    with _tolerate_server_errors():
        if scores is not None:
            artifacts.table("benchmarks", tables.benchmark_rows(scores), f"{config.env.id}, seed {config.seed}")
            artifacts.picture(root / "plots/benchmarks.png", "benchmarks")
        artifacts.run_report(
            root, config, summary=summary, registered=registered, promotion=promotion, registry_error=error
        )
    if failed:
        raise benchmark_tasks.failure_of(failed)
    return outcome


@task(task_run_name="evaluate {version}", retries=1, retry_condition_fn=resumable, persist_result=False)
def evaluate(version: versions.Version, params_file: str, episodes: int) -> Path:
    """See `versions.evaluate`."""
    log, root = get_run_logger(), Path.cwd()
    config = versions.evaluation_config(root, version, params_file or None, episodes or None)
    log.info("%s in %s, %d episodes a policy", version, config.env.id, config.evaluate.episodes)
    return versions.evaluate(root, version, config, lambda line: log.info("%s", line))


def _find_version(model: str | None, version: str) -> versions.Version:
    root = Path.cwd()
    return versions.find(root, model or registry.model_name(root, load("params.yaml")), version)


@flow(name="evaluate-model", persist_result=False, validate_parameters=True)
def evaluate_model(
    model: Model = "",
    version: Selector = "champion",
    *,
    params_file: ParamsFile = "",
    episodes: Episodes = 0,
    benchmarks: list[Benchmark] = [],  # noqa: B006  # shown in the form, never changed
    profile: Profile = "",
    benchmark_options: list[BenchmarkOption] = [],  # noqa: B006  # likewise
) -> dict[str, Any]:
    """Evaluates a registered version on episodes that training never saw, and on the benchmarks that are named.

    Scores of benchmarks are kept with the version; episodes of the simulator change nothing in the registry.

    Args:
        model: Registered model, such as vldac-miniworld-onerooms6fast-v0-qwen2_vl. Empty: the one of params.yaml.
        version: Number of a version, or an alias such as champion or candidate.
        params_file: Params file of the project, such as conf/numberline.yaml, whose sections `env` and `evaluate` take
            the place of the version's own. Empty: the version's own.
        episodes: Episodes of each policy. 0: as many as the parameters say.
        benchmarks: Benchmarks besides the simulator.
        profile: Of these benchmarks. Empty: the version's own.
        benchmark_options: Their options, such as limit=10 or agent=cot; each benchmark takes those that it has.
    """
    _die_with_worker()
    options = forms.options_of(benchmarks, [*([f"profile={profile}"] if profile else []), *benchmark_options])
    found = _find_version(model, version)
    with _tolerate_server_errors():
        artifacts.name_run(f"evaluate {found}")
    directory = evaluate(found, params_file, episodes)
    summary = versions.read_summary(directory)
    acts = tables.base_acts(found.config.model_dump())
    with _tolerate_server_errors():
        artifacts.table("evaluation", artifacts.comparison(summary, acts=acts), str(found))
        artifacts.picture(directory / "filmstrip.png", "filmstrip")
        _link(found)
    get_run_logger().info("%s\n%s", found, tables.text(summary, acts=acts))
    if benchmarks:
        results, failed = benchmark_tasks.run_each(Path.cwd(), f"{found.name}/{found.number}", options)
        with _tolerate_server_errors():
            if results:
                artifacts.table("benchmarks", tables.benchmark_rows({"trained": results}), str(found))
        if failed:
            raise benchmark_tasks.failure_of(failed)
    return summary


def _link(version: versions.Version) -> None:
    uri = runs.tracking_uri(Path.cwd())
    registered = registry.Registered(version.name, version.number, new=False)
    artifacts.link("registered-version", artifacts.version_page(uri, registered), str(version))


@flow(name="promote-model", persist_result=False, validate_parameters=True)
def promote_model(
    model: Model = "", version: Selector = "candidate", dry_run: bool = False, ask: bool = False
) -> registry.Promotion:
    """Promotes a version to @champion if it beats the present one beyond doubt; a second run changes nothing.

    Args:
        model: Registered model, such as vldac-miniworld-onerooms6fast-v0-qwen2_vl. Empty: the one of params.yaml.
        version: Number of a version, or an alias such as candidate.
        dry_run: Only say what would happen.
        ask: Wait for a person's yes on the page of this run, where the rule would promote.
    """
    _die_with_worker()
    found = _find_version(model, version)
    with _tolerate_server_errors():
        artifacts.name_run(f"promote {found}")
    done = registry.promote_version(Path.cwd(), found.name, found.number, dry_run=dry_run or ask, ask=ask)
    if ask and not dry_run and done.decision.promote:
        done = _by_answer(found, done)
    _log_promotion(done, dry_run=dry_run)
    with _tolerate_server_errors():
        verdict = {
            (False, True): "is promoted",
            (False, False): "is not promoted",
            (True, True): "would be promoted",
            (True, False): "would not be promoted",
        }[dry_run, done.decision.promote]
        artifacts.markdown("promotion", f"{found} {verdict}: {done.decision.reason}", str(found))
        _link(found)
    return done


def _by_answer(version: versions.Version, would: registry.Promotion) -> registry.Promotion:
    """Promotes a version that the rule would promote, if a person says yes."""
    what = f"{version} would become @{registry.CHAMPION}: {would.decision.reason}"
    lines = [what, *(comparison.summaries(version.tags))]
    with _tolerate_server_errors():
        notifications.say(notifications.ASKED, version.name, f"a yes is wanted: {version}", "\n".join(lines))
    answer = approval.ask("\n\n".join(lines))
    by = answer.by.strip() or "a person"
    registry.record_answer(Path.cwd(), version.name, version.number, by, yes=answer.promote)
    if answer.promote:
        return registry.promote_version(Path.cwd(), version.name, version.number)
    return replace(would, decision=registry.Decision(False, f"{by} said no"))


@flow(name="compare-models", persist_result=False, validate_parameters=True)
def compare_models(
    model: Model = "", first: Selector = "champion", second: Selector = "candidate", episodes: Episodes = 0
) -> dict[str, str]:
    """Plays two versions on the same episodes; the difference is kept with the second and shown before it is promoted.

    Args:
        model: Registered model, such as vldac-miniworld-onerooms6fast-v0-qwen2_vl. Empty: the one of params.yaml.
        first: Number of a version, or an alias such as champion.
        second: Number of the other, or an alias such as candidate.
        episodes: Episodes that both play. 0: as many as the first's parameters say.
    """
    _die_with_worker()
    log, root = get_run_logger(), Path.cwd()
    a, b = _find_version(model, first), _find_version(model, second)
    found = comparison.compare(root, a, b, episodes=episodes or None, say=lambda line: log.info("%s", line))
    row = comparison.row(a, b, found)
    log.info("%s", comparison.verdict(a, b, found))
    with _tolerate_server_errors():
        artifacts.table("compared", [row], comparison.verdict(a, b, found))
        _link(b)
    return row


@flow(name="nightly", persist_result=False, validate_parameters=True)
def nightly(episodes: Episodes = 0) -> list[dict[str, str]]:
    """Evaluates every @champion again and posts how it does beside how it did when it was registered.

    Args:
        episodes: Episodes of each policy. 0: as many as each version's own parameters say.
    """
    _die_with_worker()
    log = get_run_logger()
    if _overtaken():
        log.info("this run was missed and is skipped: a later one of its schedule is due as well")
        return []
    rows, failed = [], []
    for version in versions.champions(Path.cwd()):
        try:
            directory = evaluate(version, "", episodes)
        except (PipelineError, ConfigError) as error:  # one model must not hide the others
            log.error("%s: %s", version, explain(error))  # noqa: TRY400  # the one line is what a person needs
            failed.append(str(version))
            continue
        now = registry.Score.of(versions.read_summary(directory)["trained"])
        rows.append(_compare(version, now))
        if _worse(version, now):
            with _tolerate_server_errors():
                text = f"{version}: success {now} tonight, {version.score} when it was registered"
                notifications.say(notifications.WORSE, version.name, f"worse tonight: {version.name}", text)
        log.info("%s", ", ".join(f"{key} {value}" for key, value in rows[-1].items()))
    with _tolerate_server_errors():
        if rows:
            artifacts.table("champions", rows, "success on unseen episodes [95% interval]")
    if failed:
        raise PipelineError(f"not evaluated: {', '.join(failed)}; see the log above")
    if not rows:
        log.info("there is no @%s yet; train-pipeline makes the first", registry.CHAMPION)
    return rows


@flow(name="study", persist_result=False, validate_parameters=True)
def study(profile: StudyProfile = "smoke", model: StartingModel = "", jobs: Jobs = 0) -> Path:
    """Compares algorithms over environments, seeds and ablations; finished cells are kept, killed ones resumed.

    Args:
        profile: Of conf/study, such as smoke, laptop or full, or a YAML file of the project.
        model: Hub id or directory of the model to start from. Empty: the profile's.
        jobs: Cells at a time. 0: as many as the cores serve.
    """
    _die_with_worker()
    results = study_tasks.run_study(profile, model, jobs)
    with _tolerate_server_errors():
        study_tasks.show(results)
    return results


def _worse(version: versions.Version, now: registry.Score) -> bool:
    """Whether a champion does worse than when it was registered, beyond doubt: the 95% intervals do not overlap."""
    return version.score is not None and now.high < version.score.low


def _compare(version: versions.Version, now: registry.Score) -> dict[str, str]:
    """A row of the nightly table."""
    then = version.score
    if then is None:
        verdict = "was never scored"
    elif _worse(version, now):
        verdict = "WORSE: the 95% intervals do not overlap"
    elif now.low > then.high:
        verdict = "better: the 95% intervals do not overlap"
    else:
        verdict = "as before"
    return {
        "model": version.name,
        "version": version.number,
        "registered with": str(then) if then else "-",
        "tonight": str(now),
        "verdict": verdict,
    }
