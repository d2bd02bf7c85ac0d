"""The notebook of the docs, run from its first cell to its last in a project that holds what a run leaves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.service_client import clean_environment

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def test_the_notebook_runs(tiny_policy: Path, tiny_base: Path, tiny_params_file: Any, tmp_path: Path) -> None:
    tiny_params_file()
    shutil.copytree(tiny_policy, tmp_path / "models/policy")
    shutil.copytree(tiny_base, tmp_path / "models/base")
    for name in ("docs", "extensions", "runs/one"):
        (tmp_path / name).mkdir(parents=True)
    rows = [{"environment_steps": 16 * step, "episode/success": 0.5} for step in (1, 2)]
    (tmp_path / "runs/one/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cells = json.loads((REPOSITORY / "docs/notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    program = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "docs",  # where a notebook program starts it
        env={**clean_environment(REPOSITORY), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"models/policy, trained on tiny for GymCards-NumberLine-v0: [\d,]+ parameters", done.stdout)
    compared = re.findall(r"^(\S+): success \d\.\d\d \[.*\] of 20 episodes$", done.stdout, re.M)
    assert compared == ["models/policy", "models/base"]
