"""The directory of a run: whose it is, and what is written there as the run goes, before anything else sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vldac.config import Config, ConfigError
from vldac.distributed import Runtime
from vldac.utils.files import write_json


class RunLog:
    """One JSON object a line, each with the "update" it belongs to. Rank 0 writes.

    Args:
        path: of the file.
        runtime: this rank.
    """

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self.path, self.runtime, self.started = path, runtime, time.time()

    def truncate(self, update: int) -> None:
        """Drops the lines after `update`: they are about to be made again."""
        if not self.runtime.is_main:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:  # the line that was being written when the run was killed
                    break
                if row["update"] > update:
                    break
                kept.append(line)
                self.started = time.time() - row["time_s"]
        aside = self.path.with_suffix(".writing")
        aside.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        aside.replace(self.path)

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds lines, with "time_s": seconds of the run so far, interruptions left out."""
        if self.runtime.is_main:
            elapsed = time.time() - self.started
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({**row, "time_s": elapsed}) + "\n" for row in rows)


def claim(run_dir: Path, config: Config, base: Mapping[str, Any], runtime: Runtime) -> None:
    """Makes `run_dir` this run's, or finds that it is: another run's checkpoint must never be continued by mistake."""
    path, mine = run_dir / "run-config.json", {"base": dict(base), **config.deciding()}
    runtime.barrier()
    if path.exists():
        other = json.loads(path.read_text(encoding="utf-8"))
        if changed := differences(other, mine):
            raise ConfigError(
                f"{run_dir} holds a run that differs in {', '.join(changed)}; choose another --run-dir, or delete it"
            )
    runtime.barrier()
    if runtime.is_main:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, mine)


def differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys, section by section, at which two configurations differ."""
    found = []
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if isinstance(x, dict) and isinstance(y, dict):
            found += differences(x, y, f"{prefix}{key}.")
        elif x != y:
            found.append(prefix + key)
    return found
