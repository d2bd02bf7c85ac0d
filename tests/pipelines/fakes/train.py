"""Stands in for `vldac.train`: same command line, same files, resumes from its checkpoint, learns nothing.

The file `die_at` in the project, holding an update, makes it end itself by SIGKILL after that update, once; the file
`fail` makes it fail with the line that it holds.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from vldac.config import load

parser = argparse.ArgumentParser()
for name in ("--params", "--base", "--run-dir", "--out"):
    parser.add_argument(name, type=Path)
options = parser.parse_args()
config = load(options.params)
if Path("fail").exists():
    print(f"error: {Path('fail').read_text()}", file=sys.stderr)
    raise SystemExit(1)
checkpoint = options.run_dir / "checkpoints" / "update.json"
metrics = options.run_dir / "metrics.jsonl"
options.run_dir.mkdir(parents=True, exist_ok=True)
done = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
rows = metrics.read_text().splitlines(keepends=True)[:done] if metrics.exists() else []
metrics.write_text("".join(rows))
print(f"starting at update {done}", flush=True)
for update in range(done + 1, config.updates + 1):
    comparable = 4 * min(25, max(0, update - 1))  # an episode lasts until the update after the one in which it began
    row = {
        "update": update,
        "environment_steps": update * config.steps_per_update,
        "time_s": time.monotonic() % 100,
        "episode/complete_until": (update - 1) * config.steps_per_update,
        "rollout/invalid_actions": 0.1,
        "loss/policy": 1 / update,
    }
    if comparable:
        row |= {"episode/count": 4, "episode/success": update / config.updates, "episode/return": update / 10}
        row |= {"episode/length": 3.0, "episode/success_last_100": update / config.updates}
        row |= {"episode/success_last_100_count": comparable}
    with metrics.open("a") as file:
        file.write(json.dumps(row) + "\n")
    with (options.run_dir / "episodes.jsonl").open("a") as file:
        began = (update - 1) * config.steps_per_update
        file.write(json.dumps({"update": update, "began": began, "success": True, "return": 1.0, "length": 3}) + "\n")
    if update % 2 == 0:
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_text(json.dumps(update))
    print(f"update {update}", flush=True)
    if Path("die_at").exists() and int(Path("die_at").read_text()) == update:
        Path("die_at").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("FAKE_UPDATE_SECONDS", "0")))
if options.out.exists():
    shutil.rmtree(options.out)
options.out.mkdir(parents=True)
weights = b"policy" + (options.base / "model.safetensors").read_bytes() + str(config.train.gamma).encode()
(options.out / "adapter_model.safetensors").write_bytes(weights)
(options.out / "adapter_config.json").write_text("{}")
