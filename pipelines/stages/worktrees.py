"""A run with parameters other than those of params.yaml, in a checkout of its own: same code, cache and registry.

The checkout is a git worktree below `.local/checkouts`, named after its parameters: whoever asks for the same ones
again finds their results there, or a checkpoint to resume from. Files that are not committed come along as they are.
Nothing in it is the only copy: DVC's cache has the weights, MLflow the versions. It may be deleted at any time when no
run works in it; a run has a shared lock on the directory.
"""

from __future__ import annotations

import fcntl
import filecmp
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path

import yaml

from pipelines.core.errors import PipelineError
from pipelines.core.project import RECORDED, home, params_file
from pipelines.stages.repro import NO_GIT, call, environment
from vldac.config import Config, load

#: Locked by whoever makes, changes or removes a checkout.
LOCK = ".lock"


def directory(root: Path) -> Path:
    """Where the checkouts of a project lie."""
    return home(root) / "checkouts"


@contextmanager
def enter(root: Path, params: str = "params.yaml", overrides: Sequence[str] = ()) -> Iterator[Path]:
    """Enters a context whose current directory is a project with these parameters.

    Args:
        root: the project.
        params: a params file below it.
        overrides: `section.key=value`, as `--set` takes them.

    Yields:
        `root` itself if its params.yaml says just that, else the checkout.

    Raises:
        ConfigError: a parameter is wrong.
        PipelineError: `params` is outside the project, or the project is not in git.
    """
    root = root.resolve()
    config = load(params_file(root, params), overrides)
    if config == load(root / "params.yaml"):
        yield root
        return
    with prepared(root, config) as checkout, chdir(checkout):
        before = os.environ.get("DVC_ROOT")
        os.environ["DVC_ROOT"] = str(root)  # as DVC itself says of the directory of a queued experiment
        try:
            yield checkout
        finally:
            if before is None:
                del os.environ["DVC_ROOT"]
            else:
                os.environ["DVC_ROOT"] = before


@contextmanager
def prepared(root: Path, config: Config) -> Iterator[Path]:
    """The checkout for `config`, made or brought up to the files of `root`; locked against removal while this lasts."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    checkouts = directory(root)
    checkouts.mkdir(parents=True, exist_ok=True)
    checkout = checkouts / f"{re.sub('[:/]', '-', config.env.id)}-seed-{config.seed}-{digest}"
    with (checkouts / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        commit = _git(root, "rev-parse", "--verify", "HEAD").strip()
        if not _is_checkout(root, checkout):
            shutil.rmtree(checkout, ignore_errors=True)  # what a killed attempt left, or one that git has forgotten
            _git(root, "worktree", "add", "--quiet", "--force", "--no-checkout", "--detach", str(checkout), commit)
        _git(checkout, "reset", "--quiet", "--mixed", commit)
        _mirror(root, checkout)
        (checkout / "params.yaml").write_text(text, encoding="utf-8")
        _share_cache(root, checkout)
        used = os.open(checkout, os.O_RDONLY)
        fcntl.flock(used, fcntl.LOCK_SH)
    try:
        yield checkout
    finally:
        os.close(used)


def _is_checkout(root: Path, checkout: Path) -> bool:
    """Whether git knows a checkout: the project may have moved, or have come without its `.git/worktrees`."""
    if not (checkout / ".git").is_file():
        return False
    command = ["git", "-c", f"safe.directory={checkout}", "rev-parse", "--path-format=absolute", "--git-common-dir"]
    told = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    common = _git(root, "rev-parse", "--path-format=absolute", "--git-common-dir").strip()
    return told.returncode == 0 and told.stdout.strip() == common


def _mirror(root: Path, checkout: Path) -> None:
    """Gives the checkout the sources of the project, those that are not committed included, and no others."""
    wanted = _sources(root)
    for name in _sources(checkout) - wanted:
        (checkout / name).unlink(missing_ok=True)
    for name in wanted:
        source, target = root / name, checkout / name
        if target.exists() and filecmp.cmp(source, target, shallow=False):
            continue  # another run may be reading it
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _sources(root: Path) -> set[str]:
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return {name for name in listed if (root / name).is_file() and name.split("/", 1)[0] not in RECORDED}


def _share_cache(root: Path, checkout: Path) -> None:
    """One cache for both: what was made in one is not made again in the other."""
    local = checkout / ".dvc/config.local"
    if (root / ".dvc/config.local").exists():  # remotes and their credentials: not for other people's eyes
        shutil.copy2(root / ".dvc/config.local", local)
    dvc = (sys.executable, "-m", "dvc")
    where = call("dvc cache", [*dvc, "cache", "dir"], cwd=root, env=environment())[-1]
    call("dvc cache", [*dvc, "cache", "dir", "--local", where], cwd=checkout, env=environment())


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", f"safe.directory={root}", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        if "not a git repository" in said:
            raise PipelineError(NO_GIT)
        if "Needed a single revision" in said:
            raise PipelineError(
                "a run with its own parameters needs a commit; type `git add -A && git commit -m start`, then the same "
                "command again"
            )
        raise PipelineError(f"a run with its own parameters needs the project in git, with a commit ({said})")
    return done.stdout
