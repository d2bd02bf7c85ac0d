"""DVC's cache: what neither a checkout, a commit, an experiment nor a registered version names.

What is used is what DVC says, and its own collector removes the rest, with the locks of all checkouts held and while no
stage runs. DVC's command cannot be told of versions that are registered and in no commit, nor of an age; and a stage
that ends while it works fails, since it does not get its lock back.
"""

from __future__ import annotations

import itertools
import json
import logging
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from pipelines.core.errors import PipelineError, explain
from pipelines.core.garbage import InUseError, Item
from pipelines.stages.garbage import checkout_directories


def unused(root: Path, keep: Collection[str], older_than: float) -> Iterator[Item]:
    """All files of the cache that nothing names and that are old enough, as one item, if there are any.

    Args:
        root: the project.
        keep: hashes of files and directories that are kept besides.
        older_than: seconds since a file was written.

    Raises:
        PipelineError: DVC cannot say what is used, or the cache is not this project's alone.
    """
    with _opened(root, lock=False) as repos:
        cache = Path(repos[0].cache.local.path).resolve()
        if not cache.is_relative_to(root.resolve()):
            raise PipelineError(
                f"DVC's cache {cache} is outside of the project, and others may use it, of which nothing is known "
                "here; collect it by `dvc gc --projects` with all of them"
            )
        found = _unused(repos, keep, older_than)
    if not found:
        return
    stats = [path.stat() for path in found.values()]
    age = time.time() - min(stat.st_mtime for stat in stats)
    noun = "file" if len(found) == 1 else "files"
    yield Item(
        "DVC cache",
        f"{len(found)} {noun}",
        sum(512 * stat.st_blocks for stat in stats),
        age,
        "no checkout, commit, experiment or registered version names them; the oldest is this old",
        lambda: _remove(root, keep, older_than, found),
    )


def _remove(root: Path, keep: Collection[str], older_than: float, planned: Collection[str]) -> None:
    """Removes what was planned and is still of no use.

    Raises:
        InUseError: a command of DVC works in one of the checkouts.
        PipelineError: DVC cannot say what is used.
    """
    from dvc_data.hashfile.gc import gc  # noqa: PLC0415  # DVC takes a second to import

    with _opened(root, lock=True) as repos:
        still = _unused(repos, keep, older_than).keys() & set(planned)
        cache = repos[0].cache.local
        gc(cache, [_info(cache, oid) for oid in set(cache.all()) - still])


@contextmanager
def _opened(root: Path, *, lock: bool) -> Iterator[list[Any]]:
    """The project, its checkouts and the directories of DVC's experiments; with `lock` nothing of DVC runs in them."""
    from dvc.exceptions import DvcException  # noqa: PLC0415  # as above
    from dvc.lock import LockError  # noqa: PLC0415
    from dvc.repo import Repo  # noqa: PLC0415

    logging.getLogger("dvc").setLevel(logging.ERROR)  # it warns of every output that has not been made yet
    experiments = (path.parent for path in sorted((root / ".dvc/tmp/exps").glob("*/.dvc")))
    others = (path for path in checkout_directories(root) if (path / ".dvc").is_dir())
    with ExitStack() as stack:
        try:
            repos = [stack.enter_context(Repo(str(path))) for path in (root, *others, *experiments)]
            for repo in repos if lock else ():
                stack.enter_context(repo.lock)
                if _stage_runs(Path(repo.tmp_dir)):
                    raise InUseError(f"a stage of DVC runs in {repo.root_dir}; run this again once it has ended")
        except LockError:
            raise InUseError("a command of DVC works in the project; run this again once it has ended") from None
        except DvcException as error:
            raise PipelineError(f"DVC cannot read the project: {explain(error)}; mend that first") from None
        yield repos


def _stage_runs(directory: Path) -> bool:
    """Whether a process holds one of the locks that stages have on their files while DVC's own lock is free."""
    try:
        held = json.loads((directory / "rwlock").read_text(encoding="utf-8") or "{}")
    except FileNotFoundError:
        return False
    owners = [*held.get("write", {}).values(), *itertools.chain(*held.get("read", {}).values())]
    return any(psutil.pid_exists(owner["pid"]) for owner in owners)


def _unused(repos: list[Any], keep: Collection[str], older_than: float) -> dict[str, Path]:
    """Files of the cache by hash."""
    from dvc.exceptions import DvcException  # noqa: PLC0415  # as above
    from dvc_data.hashfile.tree import Tree  # noqa: PLC0415

    cache, limit = repos[0].cache.local, time.time() - older_than
    used: set[str] = set()
    try:
        for repo in repos:
            commits = _commits(Path(repo.root_dir)) if repo is repos[0] else []
            named = repo.used_objs(revs=commits or None, all_experiments=repo is repos[0])
            used.update(info.value for infos in named.values() for info in infos)
    except DvcException as error:
        raise PipelineError(f"DVC cannot say what is used: {explain(error)}; mend that first") from None
    there = {oid: Path(cache.oid_to_path(oid)) for oid in cache.all()}
    young = {oid for oid, path in there.items() if path.stat().st_mtime > limit}
    for oid in (young | set(keep)) & there.keys():
        used.add(oid)
        if oid.endswith(".dir"):
            used.update(entry.value for _, _, entry in Tree.load(cache, _info(cache, oid)) if entry is not None)
    return {oid: path for oid, path in there.items() if oid not in used}


def _info(cache: Any, oid: str) -> Any:
    from dvc_data.hashfile.hash_info import HashInfo  # noqa: PLC0415  # as above

    return HashInfo(cache.hash_name, oid)


def _commits(root: Path) -> list[str]:
    """Every commit of every branch and tag that changed what DVC's stages have made; the others name nothing new.

    The full history: git leaves out commits of a side whose files a merge did not take, and they name weights too.
    """
    command = ["git", "-c", f"safe.directory={root}", "log", "--all", "--full-history", "--format=%H"]
    command += ["--", "dvc.lock", "*.dvc"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"git cannot say what was committed: {done.stderr.strip()}; mend that first")
    return done.stdout.split()
