"""Stands in for `vldac.warm_start`: same command line, same files, no model."""

import argparse
import json
from pathlib import Path

from vldac.config import load
from vldac.utils.files import model_digest

parser = argparse.ArgumentParser()
for name in ("--params", "--out", "--metrics"):
    parser.add_argument(name, type=Path)
options = parser.parse_args()
config = load(options.params)
options.out.mkdir(parents=True)
if config.model.base == "tiny":
    (options.out / "config.json").write_text(json.dumps({"model_type": config.model.tiny.family}))
    (options.out / "model.safetensors").write_bytes(b"base" + bytes([config.seed]))
else:
    held = {"base": config.model.base, "revision": None, "digest": model_digest(Path(config.model.base))}
    (options.out / "base.json").write_text(json.dumps(held))
options.metrics.write_text(json.dumps({"valid": 0.97}))
print("base model built")
