"""Stands in for `vldac.evaluation.episodes`: same files; the file `success` replaces its result."""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from vldac.config import load

parser = argparse.ArgumentParser()
for name in ("--params", "--base", "--policy", "--out", "--episodes-dir", "--filmstrip"):
    parser.add_argument(name, type=Path)
parser.add_argument("--policies", nargs="+")
options = parser.parse_args()
config = load(options.params)


def score(success: float) -> dict[str, object]:
    steps = 30 - 20 * success
    interval = [max(0.0, success - 0.05), min(1.0, success + 0.05)]
    return {"success": success, "success_ci": interval, "return": success, "steps_to_goal": steps, "episodes": 200}


trained = float(Path("success").read_text()) if Path("success").exists() else 0.97
summary = {"env": config.env.id, "seed": config.seed}
summary |= {"random": score(0.55), "base": score(0.5), "trained": score(trained)}
options.episodes_dir.mkdir(parents=True, exist_ok=True)
(options.episodes_dir / "trained.jsonl").write_text("{}\n")
if options.filmstrip:
    Image.fromarray(np.full((48, 64, 3), 60, np.uint8)).save(options.filmstrip)
options.out.write_text(json.dumps(summary))
