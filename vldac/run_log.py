"""What a run writes as it goes: JSON Lines, on disk before anything else sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vldac.runtime import Runtime


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
