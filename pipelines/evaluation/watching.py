"""`vldac watch`: a policy's directory or a registered version, played step by step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.core import extensions
from pipelines.core.errors import PipelineError
from pipelines.evaluation import benchmarks
from vldac.evaluation import environments


def watch(model: str, *, env: str | None, seeds: Sequence[int], beside_base: bool, episodes: int, out: Path) -> int:
    """Plays episodes in a process of its own, which needs nothing of the pipeline.

    Args:
        model: models:/NAME@champion, NAME/3, or a policy's directory.
        env: id of the environment, or the name of a preset; None takes that of its training.
        seeds: to show; none lets it choose.
        beside_base: play the base on the same seeds, too.
        episodes: evaluation seeds to choose from.
        out: directory of the page.

    Returns:
        The exit status.

    Raises:
        PipelineError: there is no such policy, or it cannot be fetched.
        SimulatorError: there is no such environment.
    """
    root = Path.cwd()
    require_policy(model)
    if env is not None:
        environments.require(env, root)  # before gigabytes are fetched and loaded
    with benchmarks.opened(root, model) as subject:
        command = [sys.executable, "-m", "vldac.evaluation.watch", *subject.paths, "--name", subject.name]
        command += ["--episodes", str(episodes), "--out", str(out)]
        command += ["--env", env] if env else []
        command += ["--seed", *map(str, seeds)] if seeds else []
        command += ["--beside-base"] if beside_base else []
        child = extensions.environment(root, subject.code)
        return subprocess.run(command, env=child, check=False).returncode


def require_policy(model: str) -> None:
    """Checks that a text names a registered version, or a directory with a trained policy.

    Raises:
        PipelineError: it does not.
    """
    if not benchmarks.registered(model) and not (Path(model) / "vldac.json").is_file():
        raise PipelineError(f"{model} holds no trained policy; train one with `vldac run`, or name another")
