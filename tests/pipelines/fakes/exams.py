"""Stands in for `python -m benchmarks`: same command line, same files; `understanding` in the project is that score."""

import argparse
import json
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("--base", "--policy", "--base-out", "--out"):
    parser.add_argument(name, type=Path)
parser.add_argument("--exam")
parser.add_argument("--profile", default="short")
options, rest = parser.parse_known_args()


def sit(model: Path, out: Path, score: float) -> None:
    assert model.exists(), f"{model} was not fetched"
    out.mkdir(parents=True, exist_ok=True)
    task = {"score": score, "standard_error": 2.0, "count": 100}
    summary = {"exam": options.exam, "title": options.exam.title(), "synthetic": True, **task, "tasks": {"a b": task}}
    summary["identity"] = {"exam": options.exam, "profile": options.profile}
    record = {"id": "q1", "task": "a b", "prompt": "?", "images": [], "answer": "!", "parsed": None, "score": 0.5}
    (out / "records.jsonl").write_text(json.dumps({**record, "metrics": {}, "details": {}}) + "\n")
    (out / "summary.json").write_text(json.dumps(summary))
    print(f"{options.exam}: {score}")


if options.base_out:
    sit(options.base, options.base_out, 50.0)
if Path("failing").exists() and Path("failing").read_text() == options.exam:
    raise SystemExit("error: the exam's data is missing; fetch it")
sit(
    options.policy or options.base,
    options.out,
    float(Path("understanding").read_text()) if Path("understanding").exists() else 51.0,
)
