"""MLflow: what registered versions need, and what was deleted there and still takes space."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.garbage import InUseError, Item, size_of
from pipelines.tracking import exports, registry, runs
from pipelines.tracking.exports import CONTENT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_LOCAL = "file://"
#: Begins where the policies lay that a run kept; see `exports.log`.
_ON_THE_WAY = "models/checkpoints/"
#: Tags of a version that hold DVC's hashes.
HASHES = ("dvc.md5", "dvc.base.md5", "dvc.environment.md5")


def versions(client: MlflowClient) -> list[ModelVersion]:
    """Every registered version."""
    return runs.every(client.search_model_versions)


def with_alias(client: MlflowClient, known: list[ModelVersion]) -> list[ModelVersion]:
    """Those of some versions that an alias names, or that have been champion, to which a rollback may lead."""
    named: set[tuple[str, str]] = set()
    for name in {version.name for version in known}:
        aliases = client.get_registered_model(name).aliases.values()
        named |= {(name, str(number)) for number in (*aliases, *registry.history(client, name))}
    return [version for version in known if (version.name, str(version.version)) in named]


def delivered(client: MlflowClient) -> frozenset[str]:
    """Keys of the runs whose metrics MLflow has to the end."""
    experiment, keys, token = exports.experiment_id(client), set(), None
    while True:
        page = client.search_runs([experiment], "attributes.status = 'FINISHED'", page_token=token)
        keys |= {run.data.tags[runs.RUN_KEY] for run in page if runs.RUN_KEY in run.data.tags}
        if not (token := page.token):
            return frozenset(keys)


def deleted(root: Path, client: MlflowClient, older_than: float) -> Iterator[Item]:
    """Runs and models that were deleted on MLflow's pages, and models of versions that were, with their files.

    A version's models are its own, and those that its run kept on the way.

    MLflow's own collector looks neither at registered versions nor at models whose version is gone. Files go first, as
    with it: what is stopped in between is still deleted, and is found again.

    Args:
        root: the project.
        client: of a local database; a server's is its own to collect, see `local`.
        older_than: seconds since something was deleted.
    """
    for item in _deleted(root, client, older_than):
        yield replace(item, remove=partial(_within_reach, root, item.remove))


def _within_reach(root: Path, remove: Callable[[], None]) -> None:
    with runs.reachable(root):
        remove()


def _deleted(root: Path, client: MlflowClient, older_than: float) -> Iterator[Item]:
    store, known, limit = _store(client), versions(client), int(1000 * older_than)
    runs_in_use = {version.run_id for version in known}
    for run_id in sorted(set(store._get_deleted_runs(limit)) - runs_in_use):
        run = store.get_run(run_id)
        yield _item(
            f"run {run.info.run_name or run_id}", run.info.artifact_uri, run.info.end_time or run.info.start_time,
            "was deleted in MLflow", partial(store._hard_delete_run, run_id),
        )  # fmt: skip
    contents = _contents(known)
    for model_id in store._get_deleted_logged_models(limit):
        model = store.get_logged_model(model_id, allow_deleted=True)
        if model.tags.get(CONTENT) not in contents:
            yield _model(store, model, "was deleted in MLflow")
    for model in _active_models(client):
        if _of_training(model) and not _needed(model, known):
            item = _model(store, model, "is of no registered version any more")
            yield replace(
                item,
                remove=partial(_delete, client, model, item),
                locks=(runs.lock_file(root, registry.LOCK),),
            )


def _contents(known: Iterable[ModelVersion]) -> set[str | None]:
    return {version.tags.get(CONTENT) for version in known}


def _of_training(model: Any) -> bool:
    """Whether a model was logged by `registry.register`: a policy, or one that a run kept on the way to it."""
    path = model.tags.get("dvc.path", "")
    return path == "models/policy" or path.startswith(_ON_THE_WAY)


def _needed(model: Any, known: Iterable[ModelVersion]) -> bool:
    """Whether a registered version is this model, or was trained by the run that kept it on the way."""
    on_the_way = model.tags.get("dvc.path", "").startswith(_ON_THE_WAY)
    return any(
        version.tags.get(CONTENT) == model.tags.get(CONTENT)
        or model.model_id in (version.model_id, (version.source or "").removeprefix("models:/"))
        or (on_the_way and version.run_id == model.source_run_id)
        for version in known
    )


def _delete(client: MlflowClient, model: Any, item: Item) -> None:
    """Removes a model that is not deleted yet, unless it has been registered meanwhile."""
    if _needed(model, versions(client)):
        raise InUseError(f"model {model.model_id} has been registered meanwhile; it is kept")
    client.delete_logged_model(model.model_id)
    item.remove()


def local(client: MlflowClient) -> bool:
    """Whether the tracking database is a file of this machine."""
    return str(client.tracking_uri).startswith("sqlite:")


def _model(store: Any, model: Any, reason: str) -> Item:
    number = model.model_id
    return _item(
        f"model {number}", model.artifact_location, model.last_updated_timestamp, reason,
        partial(store._hard_delete_logged_model, number),
    )  # fmt: skip


def _item(name: str, artifacts: str, since_ms: int, reason: str, forget: Callable[[], None]) -> Item:
    def remove() -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

        get_artifact_repository(artifacts).delete_artifacts()
        forget()

    size = size_of(_path(artifacts)) if artifacts.startswith(_LOCAL) else 0
    return Item("MLflow", name, size, max(0.0, time.time() - since_ms / 1000), reason, remove)


def _path(uri: str) -> Path:
    from mlflow.utils.file_utils import local_file_uri_to_path  # noqa: PLC0415  # seconds to import

    return Path(local_file_uri_to_path(uri))


def _active_models(client: MlflowClient) -> list[Any]:
    return runs.every(client.search_logged_models, [exports.experiment_id(client)])


def _store(client: MlflowClient) -> Any:
    """The database behind a client; permanent removal is not a part of MLflow's client, only of its own collector."""
    from mlflow.tracking._tracking_service.utils import _get_store  # noqa: PLC0415  # seconds to import

    return _get_store(client.tracking_uri)
