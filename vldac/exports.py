"""Policies that a run writes: the last one, and those of `checkpoint.export_every` on the way there.

A checkpoint holds all that a run needs to resume and is deleted after a while. An export holds the policy alone, in the
form in which it is evaluated and served, and stays.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vldac import policy
from vldac.config import Config, ConfigError
from vldac.distributed import Runtime
from vldac.learner import Learner


@dataclass(frozen=True)
class Exporter:
    """Writes a run's policies.

    Attributes:
        learner: holds the policy.
        config: of the run.
        base: what `vldac.policy.identity` says of the base model.
        runtime: this rank.
    """

    learner: Learner
    config: Config
    base: Mapping[str, Any]
    runtime: Runtime

    def write(self, update: int, out: Path) -> None:
        """Writes the policy directory after `update` updates; every rank must call it.

        The directory appears whole or not at all.
        """
        weights = self.learner.weights()
        if not self.runtime.is_main:
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(f".{out.name}.writing")
        shutil.rmtree(aside, ignore_errors=True)
        description = {
            "adapter": self.config.model.lora_rank > 0,
            "base": dict(self.base),
            "environment_steps": update * self.config.steps_per_update,
            "config": self.config.deciding(),  # the same weights are the same files, however they are scored later
        }
        critic = self.learner.critic
        policy.save(aside, self.learner.vlm, critic.head.state_dict() if critic else None, description, weights)
        shutil.rmtree(out, ignore_errors=True)
        aside.rename(out)


def directory(run_dir: Path, update: int) -> Path:
    """Where a run keeps the policy after `update` updates."""
    return run_dir / "exports" / f"update-{update:06d}"


def require(run_dir: Path, config: Config, update: int) -> None:
    """Checks that a run which resumes from `update` has exported all that it should have by then.

    Raises:
        ConfigError: `checkpoint.export_every` was another one when the run went past an update.
    """
    for exported in config.exported_updates:
        if exported <= update and not directory(run_dir, exported).is_dir():
            raise ConfigError(
                f"{run_dir} is past update {exported} without its export; choose another --run-dir, or leave "
                "checkpoint.export_every as it was"
            )
