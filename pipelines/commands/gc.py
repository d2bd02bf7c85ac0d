"""`vldac gc`: removes from disk what nothing needs any more, and says of each thing why.

Never removed are the lineage of a registered version (its weights and base in the DVC cache, its MLflow run and model,
its metrics), what a commit, a checkout or an experiment names in the cache, and whatever a process works in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipelines.commands import dvc_cache
from pipelines.commands.run import environment
from pipelines.core import garbage as core
from pipelines.core import tables
from pipelines.core.errors import PipelineError
from pipelines.core.garbage import InUseError, Item
from pipelines.core.network import LOOPBACK
from pipelines.core.project import cache_directory, home, read_json
from pipelines.orchestration import garbage as prefect
from pipelines.stages import base, worktrees
from pipelines.stages import garbage as stages
from pipelines.tracking import garbage as mlflow
from pipelines.tracking import runs
from vldac.utils.errors import explain

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

#: Kinds of which there is one item for all that is old enough.
_WHOLE = ("DVC cache", "Prefect")


@dataclass(frozen=True)
class Policy:
    """What is kept although nothing needs it.

    Attributes:
        older_than: seconds; what was of use since then is kept.
        last: how many of each kind are kept, the newest.
        budget: bytes; the oldest go first, until all together take no more. None removes all that may go.
        champions: keep everything of versions that an alias names or that were champion, run directories with
            checkpoints and checkouts too.
    """

    older_than: float
    last: int = 1
    budget: int | None = None
    champions: bool = False


def collect(root: Path, policy: Policy, *, dry_run: bool, say: Callable[[str], None]) -> None:
    """Removes what may go.

    Args:
        root: the project.
        policy: what is kept all the same.
        dry_run: only say what would be removed.
        say: takes each line.

    Raises:
        PipelineError: this is no project, or what registered versions need cannot be known.
    """
    if not (root / "dvc.yaml").is_file() or "DVC_ROOT" in os.environ:
        raise PipelineError(f"{root} is no project with a dvc.yaml; go to the project itself")
    for name, value in environment(root).items():
        os.environ.setdefault(name, value)
    with _alone(root):
        _collect(root, policy, dry_run=dry_run, say=say)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One collector at a time."""
    home(root).mkdir(exist_ok=True)
    lock = home(root) / ".gc.lock"
    lock.touch()
    try:
        with core.claimed(lock):
            yield
    except InUseError:
        raise PipelineError("another `vldac gc` works in this project; wait for it") from None


def _collect(root: Path, policy: Policy, *, dry_run: bool, say: Callable[[str], None]) -> None:
    if not dry_run:
        kept = worktrees.directory(root), base.directory(root), home(root)
        for directory in (root / "runs", *(root / "runs").glob("*/"), *kept):
            core.sweep(directory)
    say("looking at runs, checkouts, the DVC cache, MLflow and Prefect's history")
    used = sum(map(core.size_of, places(root)))
    notes: list[str] = []
    items = list(_found(root, policy, notes))
    chosen = choose(items, policy, used, busy=lambda item: _busy(item, notes))
    removed = chosen if dry_run else [item for item in chosen if _remove(item, notes)]
    freed = sum(item.size for item in removed)
    if removed:
        columns = [("", "size", "age"), *map(_row, removed)]
        lines = tables.aligned(columns).splitlines()
        for line, reason in zip(lines, ("", *(item.reason for item in removed)), strict=True):
            say(f"{line}  {reason}".rstrip())
    for note in notes:
        say(f"kept: {note}")
    verb = "would free" if dry_run else "freed"
    say(f"{verb} {core.show_size(freed)} of {core.show_size(used)}")
    if policy.budget is not None and used - freed > policy.budget:
        say(
            f"{core.show_size(used - freed - policy.budget)} more than the budget is needed or younger than "
            "--older-than or among the --keep-last; lower those, or delete versions and runs in MLflow"
        )


def places(root: Path) -> tuple[Path, ...]:
    """What grows with every run."""
    local = home(root)
    databases = (local / "mlflow.db", *sorted((local / "prefect").glob("prefect.db*")))
    directories = (root / "runs", worktrees.directory(root), base.directory(root), cache_directory(root))
    return (*directories, local / "mlartifacts", *databases)


def choose(
    items: Iterable[Item], policy: Policy, used: int, *, busy: Callable[[Item], bool] = lambda _: False
) -> list[Item]:
    """What goes, the oldest first.

    Args:
        items: that nothing needs.
        policy: what is kept all the same.
        used: bytes that everything takes.
        busy: whether a process works in something; asked of what is old enough only, since it takes a lock to know.
    """
    may_go: list[Item] = []
    for kind, group in groupby(sorted(items, key=lambda item: (item.kind, item.age)), key=lambda item: item.kind):
        may_go += list(group)[0 if kind in _WHOLE else policy.last :]
    old = [item for item in may_go if item.age >= policy.older_than and not busy(item)]
    old.sort(key=lambda item: -item.age)
    if policy.budget is None:
        return old
    chosen = []
    for item in old:
        if used <= policy.budget:
            break
        chosen.append(item)
        used -= item.size
    return chosen


def _found(root: Path, policy: Policy, notes: list[str]) -> Iterator[Item]:
    """Everything that nothing needs; what cannot be looked at is kept, and said."""
    _require_own_registry(root)
    with runs.reachable(root):
        client = runs.client(root)
        known = mlflow.versions(client)
        named = mlflow.with_alias(client, known)
        needed = stages.Needed(
            hashes=_tags(known, *mlflow.HASHES),
            run_keys=_tags(known, runs.RUN_KEY),
            untouched=_tags(named, runs.RUN_KEY) if policy.champions else frozenset(),
            untouched_hashes=_tags(named, "dvc.md5") if policy.champions else frozenset(),
            delivered=mlflow.delivered(client),
        )
    looks: list[Callable[[], Iterator[Item]]] = [
        lambda: stages.run_directories(root, needed),
        lambda: stages.checkouts(root, needed),
        lambda: stages.bases(root),
        lambda: stages.leftovers(root),
        lambda: dvc_cache.unused(root, needed.hashes, policy.older_than),
        lambda: prefect.history(root, policy.older_than),
    ]
    if mlflow.local(client):
        looks.append(lambda: mlflow.deleted(root, client, policy.older_than))
    else:
        notes.append("what was deleted in MLflow: that is for `mlflow gc` on the server's machine (docs/operate.md)")
    for look in looks:
        try:
            yield from look()
        except PipelineError as error:
            notes.append(str(error))


def _require_own_registry(root: Path) -> None:
    """Checks that this is the MLflow to which the project's runs went: another one knows nothing of their versions.

    Raises:
        PipelineError: it is not.
    """
    now = runs.without_credentials(runs.tracking_uri(root))
    for path in (at / "runs/train.json" for at in (root, *stages.checkout_directories(root))):
        about = read_json(path) if path.exists() else {}
        then = str(about.get("mlflow_tracking_uri", now))
        # `vldac serve` has its server on this machine, before the database that is used without one: it knows the run.
        if then != now and (_is_elsewhere(then) or not _knows(root, str(about.get("run_key")))):
            raise PipelineError(
                f"{path} names MLflow at {then}, and this is {now}, which does not know the versions there; set "
                "MLFLOW_TRACKING_URI"
            )


def _is_elsewhere(uri: str) -> bool:
    return urlsplit(uri).scheme in {"http", "https"} and urlsplit(uri).hostname not in LOOPBACK


def _knows(root: Path, run_key: str) -> bool:
    """Whether the MLflow of now has a run; a local database is not made for the question."""
    uri = runs.tracking_uri(root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return False
    with runs.reachable(root):
        return runs.find_run(runs.client(root), run_key) is not None


def _tags(versions: Sequence[ModelVersion], *names: str) -> frozenset[str]:
    values = (version.tags.get(name) for version in versions for name in names)
    return frozenset(value for value in values if value)


def _busy(item: Item, notes: list[str]) -> bool:
    if core.in_use(*item.locks):
        notes.append(f"{item.kind} {item.name}: it is in use")
        return True
    return False


def _remove(item: Item, notes: list[str]) -> bool:
    try:
        with core.claimed(*item.locks):
            item.remove()
    except (PipelineError, OSError) as error:
        notes.append(f"{item.kind} {item.name}: {explain(error)}")
        return False
    return True


def _row(item: Item) -> tuple[str, ...]:
    size = core.show_size(item.size) if item.size else "-"
    return (f"{item.kind} {item.name}", size, core.show_age(item.age))


def policy_of(older_than: str, last: int, budget: str | None, *, champions: bool) -> Policy:
    """A policy as a person types it.

    Raises:
        PipelineError: a value is none.
    """
    if last < 0:
        raise PipelineError(f"--keep-last {last}: give 0 or more")
    limit = core.parse_age(older_than).total_seconds()
    return Policy(limit, last, core.parse_size(budget) if budget else None, champions)
