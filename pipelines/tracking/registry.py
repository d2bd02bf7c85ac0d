"""The model registry: one version for each distinct policy, with everything needed to make it again.

Registering and promoting are idempotent: the same weights have the same content hash, and a version that carries it is
never made twice. Aliases say what a version is for: @candidate is the last one trained, @champion the best one shown.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import PipelineError
from pipelines.core.project import base_digest, content_hash, family, read_json, read_lock, revision, workspace
from pipelines.core.rundir import RunIdentity
from pipelines.tracking import benchmark_scores, exports, model_card, packaging, runs
from pipelines.tracking.datasets import evaluation_set, log_input
from pipelines.tracking.exports import CONTENT
from pipelines.tracking.promotion import Decision, Score, decide
from vldac.config import Config

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

#: What MLflow is asked for: registered models of this project's kind, and their versions.
NAMES = "name LIKE 'vldac-%'"
CANDIDATE, CHAMPION = "candidate", "champion"
#: Tag of a registered model: the numbers of its champions, the present one last.
HISTORY = "champion.history"
_REMEMBERED = 50  # champions
_CARD, _ENVIRONMENT = "README.md", "data/environment/manifest.json"
#: Tag with what a person said of a version's promotion, and how a refusal begins.
_ANSWER, _NO = "promotion.answer", "no"
#: Tag of a version that was rolled back: the one that took its place.
_ROLLED_TO = "rollback.to"
#: Tag of a version with the hash of the simulator in which it was scored.
_SCORED_IN = "evaluate.environment.md5"
#: Begins the tags that hold a comparison with another version on the same episodes.
COMPARED = "compared."
#: Name of the lock of whoever changes the registry; see `runs.lock_file`.
LOCK = "registry"


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes:
        name: of the registered model.
        version: its number, as MLflow writes it.
        new: whether this call made it.
    """

    name: str
    version: str
    new: bool


@dataclass(frozen=True)
class Promotion:
    """What became of a candidate."""

    registered: Registered
    decision: Decision
    champion: str | None


def model_name(root: Path, config: Config) -> str:
    """`vldac-<environment>-<family>`: versions of one name do the same job and may be compared."""
    return "-".join(("vldac", _slug(config.env.id), _slug(family(root))))


def models(client: MlflowClient) -> list[RegisteredModel]:
    """Every registered model that has such a name; a server may hold those of other programs."""
    return sorted(runs.every(client.search_registered_models, NAMES), key=lambda model: str(model.name))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-")


def other_world(env: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys of two sections `env` by which an episode of a seed is another one; the rest is what is shown of it."""
    return [name for name in ("id", "options", "max_steps") if (env.get(name) or None) != (other.get(name) or None)]


def register(root: Path, config: Config) -> Registered:
    """Brings the training's MLflow run up to date and registers models/policy as @candidate.

    Raises:
        PipelineError: a stage has not run, or MLflow cannot be used.
    """
    name, content = model_name(root, config), content_hash(root / "models/policy")
    train = read_json(root / "runs/train.json")
    identity = RunIdentity(train["run_key"], train["fingerprint"], train["started_ms"])
    with _locked(root), runs.reachable(root):
        client = runs.client(root)
        version = _find(client, name, content)
        if version is None:
            run_id = runs.send_all(client, _metrics(root, identity), identity, runs.details(root, config))
            experiment = {k: v for k, v in client.get_run(run_id).data.tags.items() if k.startswith("dvc.exp.")}
            tags = {**_lineage(root, config, content, identity), **experiment}
            with runs.transferring(f"sending {name} to MLflow"):
                exports.log(client, root, config, run_id, tags)
                logged = exports.find(client, content)
                step = _trained_steps(root)
                model_id = logged.model_id if logged else packaging.log_model(root, config, run_id, tags, step)
            _create_registered_model(client, name)
            made = client.create_model_version(
                name, source=f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
            )
            registered = Registered(name, str(made.version), new=True)
            client.update_run(run_id, name=f"{runs.details(root, config).name} v{made.version}")
            client.log_text(run_id, model_card.card(made), _CARD)
        else:
            registered = Registered(name, str(version.version), new=False)
        client.set_registered_model_alias(name, CANDIDATE, registered.version)
    return registered


def _metrics(root: Path, identity: RunIdentity) -> Path:
    """The run's metrics: in its directory, or where a later run of the same fingerprint has moved them."""
    runs = workspace(root) / "runs"
    archived = runs / f"{identity.fingerprint}-{identity.run_key[:8]}"
    return (archived if archived.exists() else runs / identity.fingerprint) / "metrics.jsonl"


def _find(client: MlflowClient, name: str, content: str) -> ModelVersion | None:
    """The version of these very weights."""
    found = client.search_model_versions(f"name='{name}' and tags.`{CONTENT}`='{content}'")
    return min(found, key=lambda version: int(version.version), default=None)


def _lineage(root: Path, config: Config, content: str, identity: RunIdentity) -> dict[str, str]:
    """From a version back to its data: what `git checkout` and `dvc repro` need to make it again."""
    lock, at = read_lock(root), revision(root)
    tags = {
        CONTENT: content,
        "base.sha256": content_hash(root / "models/base"),
        "dvc.md5": lock.out("train", "models/policy") or "",
        "dvc.path": "models/policy",
        "dvc.lock.md5": lock.md5,
        "dvc.base.md5": lock.out("base", "models/base") or "",
        "dvc.environment.md5": lock.out("environment", _ENVIRONMENT) or "",
        "git.revision": at.commit,
        "git.dirty": str(at.dirty).lower(),
        "env": config.env.id,
        "algorithm": config.train.algorithm,
        "seed": str(config.seed),
        "model.base": config.model.base,
        "params": json.dumps(config.model_dump(mode="json"), sort_keys=True),
        runs.RUN_KEY: identity.run_key,
        "vldac.fingerprint": identity.fingerprint,
    }
    optional = {"base.digest": base_digest(root), "model.revision": config.model.revision}
    return tags | {name: value for name, value in optional.items() if value}


def _create_registered_model(client: MlflowClient, name: str) -> None:
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name, description="A vision-language policy trained by VL-DAC.")


def promote(root: Path, config: Config, *, dry_run: bool = False) -> Promotion:
    """Writes the evaluation's scores on the version of models/policy and lets it become @champion if it is better.

    Args:
        root: the project.
        config: of the run.
        dry_run: write the scores, and only say what would happen.

    Raises:
        PipelineError: the evaluation is of other weights, nothing is registered, or MLflow cannot be used.
    """
    summary, lock = read_json(root / "metrics/summary.json"), read_lock(root)
    if lock.dep("evaluate", "models/policy") != lock.out("train", "models/policy"):
        raise PipelineError("metrics/summary.json is not of the present models/policy; run `dvc repro evaluate`")
    name, content = model_name(root, config), content_hash(root / "models/policy")
    with _locked(root), runs.reachable(root):
        client = runs.client(root)
        version = _find(client, name, content)
        if version is None:
            raise PipelineError(f"models/policy has no version in {name}; run the register step first")
        world = lock.out("environment", _ENVIRONMENT) or ""
        if not _says_more(version, world, than=int(summary["trained"]["episodes"])):
            _record(client, root, config, version=version, summary=summary, lock_md5=lock.md5, world=world)
        benchmark_scores.record_present(client, root, version, lock)
        version = client.get_model_version(name, str(version.version))
        client.log_text(version.run_id, model_card.card(version), _CARD)  # now with the scores
        return _promote(client, name, str(version.version), dry_run=dry_run)


def promote_version(root: Path, name: str, number: str, *, dry_run: bool = False, ask: bool = False) -> Promotion:
    """Lets a version that has its scores become @champion if the rule says so.

    Args:
        root: the project.
        name: of the registered model.
        number: of the version.
        dry_run: only say what would happen.
        ask: a person is asked again: what one has refused before counts as open.

    Raises:
        PipelineError: the version was never evaluated, or MLflow cannot be used.
    """
    with _locked(root), runs.reachable(root):
        client = runs.client(root)
        if score_of(client.get_model_version(name, number)) is None:
            raise PipelineError(
                f"{name} version {number} has no score; run the evaluate and promote steps on its weights"
            )
        return _promote(client, name, number, dry_run=dry_run, ask=ask)


def record_answer(root: Path, name: str, number: str, by: str, *, yes: bool) -> None:
    """Keeps with a version what a person said of its promotion; after a no, the rule does not promote it."""
    with _locked(root), runs.reachable(root):
        runs.client(root).set_model_version_tag(name, number, _ANSWER, f"{'yes' if yes else _NO}, by {by}")


def _promote(client: MlflowClient, name: str, number: str, *, dry_run: bool, ask: bool = False) -> Promotion:
    registered = Registered(name, number, new=False)
    version, champion = client.get_model_version(name, number), _champion(client, name)
    if champion is not None and str(champion.version) == number:
        by_rule = version.tags.get("promotion.promoted") == "true"  # and not by a person, in the registry's own pages
        reason = version.tags["promotion.reason"] if by_rule else "it is the champion already"
        return Promotion(registered, Decision(False, reason), number)
    if "rollback.reason" in version.tags:  # the rule would bring back what a person has just taken away
        decision = Decision(False, f"it was rolled back: {version.tags['rollback.reason']}")
    elif champion is not None and (different := _other_task(version, champion)):
        decision = Decision(
            False,
            f"the champion, version {champion.version}, was scored in another task ({different} differ), and scores of "
            "two tasks say nothing of each other; set the alias on MLflow's page if this version is to replace it",
        )
    elif not ask and (answer := version.tags.get(_ANSWER, "")).startswith(_NO):
        decision = Decision(False, f"a person was asked, and the answer was {answer}")
    else:
        score = score_of(version)
        assert score is not None
        decision = decide(score, score_of(champion), baselines=_baselines(version), version=f"{name}/{number}")
    if not dry_run:
        client.set_model_version_tag(name, number, "promotion.reason", decision.reason)
        client.set_model_version_tag(name, number, "promotion.promoted", str(decision.promote).lower())
        if decision.promote:
            now = _champion(client, name)
            if (now and str(now.version)) != (champion and str(champion.version)):  # of another machine, or by hand
                raise PipelineError(f"{name} got another champion meanwhile; run the same command again")
            _set_champion(client, name, [*history(client, name), number])
    now = number if decision.promote and not dry_run else str(champion.version) if champion else None
    return Promotion(registered, decision, now)


def _other_task(version: ModelVersion, champion: ModelVersion) -> str:
    envs = [json.loads(each.tags.get("params", "{}")).get("env", {}) for each in (version, champion)]
    return ", ".join(f"env.{name}" for name in other_world(*envs)) if all(envs) else ""


def rollback(root: Path, name: str, reason: str) -> tuple[str, str]:
    """Makes the champion before the present one @champion again; the rule does not promote the present one any more.

    Versions that were deleted since are passed over. Whatever fails on the way, the same call finishes it: what is said
    of the version that goes is written first, then the alias moves, then the history.

    Returns:
        The version that was champion, and the one that is now.

    Raises:
        PipelineError: there was none before, or MLflow cannot be used.
    """
    with _locked(root), runs.reachable(root):
        client = runs.client(root)
        if not client.search_registered_models(f"name='{name}'"):
            names = ", ".join(model.name for model in client.search_registered_models()) or "none is registered"
            raise PipelineError(f"no registered model is called {name!r}; choose from {names}")
        known = {str(version.version) for version in client.search_model_versions(f"name='{name}'")}
        if (half := _half_rolled_back(client, name, known)) is not None:
            return half
        champions = history(client, name)
        gone = champions[-1] if champions else None
        earlier = [number for number in champions[:-1] if number in known and number != gone]
        if gone is None or not earlier:
            raise PipelineError(f"{name} has had no champion before the present one; promote another version instead")
        if gone in known:
            client.set_model_version_tag(name, gone, _ROLLED_TO, earlier[-1])
            client.set_model_version_tag(name, gone, "rollback.reason", reason)
        _set_champion(client, name, earlier)
    return gone, earlier[-1]


def _half_rolled_back(client: MlflowClient, name: str, known: Container[str]) -> tuple[str, str] | None:
    """Finishes a rollback that has moved the alias and not the history; see `rollback`."""
    model = client.get_registered_model(name)
    champions, now = json.loads(model.tags.get(HISTORY, "[]")), str(model.aliases.get(CHAMPION))
    gone = str(champions[-1]) if champions else ""
    if gone not in known or client.get_model_version(name, gone).tags.get(_ROLLED_TO) != now:
        return None
    earlier = [str(number) for number in champions[:-1] if str(number) in known and str(number) != gone]
    _set_champion(client, name, earlier[: earlier.index(now) + 1] if now in earlier else [*earlier, now])
    return gone, now


def history(client: MlflowClient, name: str) -> list[str]:
    """Numbers of the champions of a registered model, the present one last."""
    model = client.get_registered_model(name)
    numbers = [str(number) for number in json.loads(model.tags.get(HISTORY, "[]"))]
    now = model.aliases.get(CHAMPION)
    if now is not None and numbers[-1:] != [str(now)]:  # a person set the alias in the registry's own pages
        numbers.append(str(now))
    return numbers


def _set_champion(client: MlflowClient, name: str, champions: Sequence[str]) -> None:
    client.set_registered_model_alias(name, CHAMPION, champions[-1])
    client.set_registered_model_tag(name, HISTORY, json.dumps(list(champions[-_REMEMBERED:])))


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One process of this machine at a time: to look for a version and to make it are two requests."""
    with runs.lock_file(root, LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    number = client.get_registered_model(name).aliases.get(CHAMPION)
    return client.get_model_version(name, str(number)) if number is not None else None


def score_of(version: ModelVersion | None, policy: str = "trained") -> Score | None:
    """The score that a version was tagged with; a champion that nobody evaluated counts as none."""
    return score_in(version.tags, policy) if version is not None else None


def score_in(tags: Mapping[str, str], policy: str = "trained") -> Score | None:
    """The score that a version's tags hold, with its general understanding where that was measured."""
    text = tags.get(f"evaluate.{policy}")
    return (
        Score.of(json.loads(text), benchmark_scores.benchmark_runs(tags, "understanding", policy).values())
        if text
        else None
    )


def _trained_steps(root: Path) -> int:
    """Environment steps of models/policy; a run may end before `train.total_steps`."""
    return int(read_json(root / "metrics/train.json")["environment_steps"])


def _baselines(version: ModelVersion) -> dict[str, Score]:
    named = {"the base model": score_of(version, "base"), "the random policy": score_of(version, "random")}
    return {name: score for name, score in named.items() if score is not None}


def _says_more(version: ModelVersion, world: str, *, than: int) -> bool:
    """Whether a version has a score of more episodes than these, in the same simulator: a quick look replaces none."""
    text = version.tags.get("evaluate.trained")
    there = version.tags.get(_SCORED_IN, version.tags.get("dvc.environment.md5"))
    return text is not None and there == world and int(json.loads(text)["episodes"]) > than


def _record(
    client: MlflowClient,
    root: Path,
    config: Config,
    *,
    version: ModelVersion,
    summary: Mapping[str, Any],
    lock_md5: str,
    world: str,
) -> None:
    """Tags the version with each policy's scores and gives runs and logged models the same numbers, once each."""
    tags = {
        **{f"evaluate.{policy}": json.dumps(summary[policy]) for policy in ("random", "base", "trained")},
        "evaluate.success": str(summary["trained"]["success"]),
        "evaluate.dvc.lock.md5": lock_md5,
        _SCORED_IN: world,
    }
    if all(version.tags.get(key) == value for key, value in tags.items()):
        return
    run_id, step = version.run_id, _trained_steps(root)
    model_card.attach(client, root, config, run_id)
    benchmark = evaluation_set(root, config, config.evaluate.episodes)
    log_input(client, run_id, benchmark)
    for policy in ("random", "base", "trained"):
        for key, value in summary[policy].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                client.log_metric(run_id, f"evaluate/{policy}/{key}", float(value), step=step)
    logged = exports.find(client, version.tags[CONTENT])  # a version that a search found does not name its model
    if logged is not None:
        exports.score(client, logged.model_id, run_id, step=step, result=summary["trained"], data=benchmark)
    earlier = summary.get("checkpoints", [])
    if earlier:
        short = evaluation_set(root, config, config.evaluate.checkpoint_episodes)
        log_input(client, run_id, short)
        scored = ("evaluate", "promotion", COMPARED, benchmark_scores.TAG)
        lineage = {key: value for key, value in version.tags.items() if not key.startswith(scored)}
        ids = exports.log(client, root, config, run_id, lineage)
        for model_id, result in zip(ids, earlier, strict=True):
            exports.score(client, model_id, run_id, step=int(result["environment_steps"]), result=result, data=short)
    about = model_card.describe(config, summary, run_id, step)
    if not version.description:  # a person's own words stay
        client.update_model_version(version.name, str(version.version), about)
    client.set_tag(run_id, runs.NOTE, about)
    for key, value in tags.items():
        client.set_model_version_tag(version.name, str(version.version), key, value)
