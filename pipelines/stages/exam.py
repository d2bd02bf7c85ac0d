"""Stage `exam`: one exam of the base and of the trained model.

A killed exam goes on from the records that are there: DVC keeps its outputs, and those of another model are replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines import cli
from pipelines.exams import HOMES
from pipelines.stages.common import arguments, require, run_module
from vldac.config import Config, load


def main(argv: Sequence[str] | None = None) -> int:
    """Writes exams/base/EXAM and exams/trained/EXAM, each with exam.json, records.jsonl and summary.json."""
    options = arguments(argv, __doc__, exam=True)
    root: Path = options.root
    base, trained = (root / HOMES[model] / options.exam for model in ("base", "trained"))
    run_module(
        "benchmarks",
        *("--exam", options.exam, "--base", root / "models/base", "--policy", root / "models/policy"),
        *("--base-out", base, "--out", trained, "--overwrite"),
        *flags(load(options.params), options.exam),
        root=root,
    )
    require(trained / "summary.json")
    return 0


def flags(config: Config, exam: str) -> Iterator[str]:
    """The options of `python -m benchmarks` that the configuration gives an exam."""
    values = config.exams.model_dump(exclude={"data", "environments"}) | {
        "style": config.env.prompt,
        "dtype": config.model.dtype,
        "threads": config.deepspeed.threads,
    }
    if config.exams.data is not None and (data := Path(config.exams.data) / exam).is_dir():
        values["data"] = data
    for name, value in values.items():
        if value is not None:
            yield from (f"--{name.replace('_', '-')}", str(value))
    if config.exams.environments:
        yield from ("--environments", *config.exams.environments)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
