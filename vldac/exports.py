"""Policies that a run writes: the last one, and those of `checkpoint.export_every` on the way there.

A checkpoint holds all that a run needs to go on and is deleted after a while. An export holds the policy alone, in the
form in which it is evaluated and served, and stays.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from vldac import policy
from vldac.config import Config, ConfigError
from vldac.distributed import Runtime
from vldac.learner import Learner


def write(learner: Learner, config: Config, update: int, out: Path, runtime: Runtime) -> None:
    """Writes the policy directory after `update` updates; every rank must call it. It appears whole or not at all."""
    with learner.gathered() as vlm:
        if not runtime.is_main:
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(f".{out.name}.writing")
        shutil.rmtree(aside, ignore_errors=True)
        description = {
            "adapter": config.model.lora_rank > 0,
            "environment_steps": update * config.steps_per_update,
            "config": config.deciding(),  # the same weights are the same files, however they are benchmarked later
        }
        policy.save(aside, vlm, learner.critic.head.state_dict() if learner.critic else None, description)
        shutil.rmtree(out, ignore_errors=True)
        aside.rename(out)


def directory(run_dir: Path, update: int) -> Path:
    """Where a run keeps the policy after `update` updates."""
    return run_dir / "exports" / f"update-{update:06d}"


def require(run_dir: Path, config: Config, update: int) -> None:
    """Checks that a run which goes on from `update` has exported all that it should have by then.

    Raises:
        ConfigError: `checkpoint.export_every` was another one when the run went past an update.
    """
    for exported in config.exported_updates:
        if exported <= update and not directory(run_dir, exported).is_dir():
            raise ConfigError(
                f"{run_dir} is past update {exported} without its export; choose another --run-dir, or leave "
                "checkpoint.export_every as it was"
            )
