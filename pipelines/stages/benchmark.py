"""Stage `benchmark`: one benchmark of the base and of the trained model.

DVC keeps the outputs of this stage, so that a killed benchmark resumes from its records. Some of them must go first:
the summary, which says that a benchmark is finished; and the records of a finished benchmark, which DVC only runs again
if something has changed or the stage is forced.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipelines.core import errors, extensions
from pipelines.core.project import content_hash, read_lock, stage_inputs
from pipelines.stages.common import arguments, require, run_module
from pipelines.stages.data_listing import published
from pipelines.tracking.benchmark_scores import HOMES, SUMMARY
from vldac.config import Config, load

MODELS = ("models/base", "models/policy")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes scores/base/NAME and scores/trained/NAME, each with benchmark.json, records.jsonl and summary.json."""
    options = arguments(argv, __doc__, benchmark=True)
    root, benchmark, config = options.root, options.benchmark, load(options.params)
    data = data_flags(root, config, benchmark)
    if config.benchmarks.data is not None and not data and benchmark != "understanding":  # which has no published data
        print(
            f"{benchmark}: no folder {benchmark} in {config.benchmarks.data}; the synthetic set is used",
            flush=True,
        )
    base, trained = begin(root, benchmark)
    run_module(
        "benchmarks",
        *("--benchmark", benchmark, "--base", root / MODELS[0], "--policy", root / MODELS[1]),
        *("--base-out", base, "--out", trained, "--overwrite", "--inputs", inputs(root, benchmark)),
        *data,
        *flags(config, benchmark),
        root=root,
        env=extensions.environment(root, config),
    )
    require(trained / SUMMARY)
    return 0


def begin(root: Path, benchmark: str) -> tuple[Path, Path]:
    """Removes what DVC kept and must not be resumed; returns where the records of base and policy go.

    Records of the base stay when only the policy has changed: `python -m benchmarks` knows whose they are.
    """
    base, trained = (root / HOMES[model] / benchmark for model in ("base", "trained"))
    finished = (base / SUMMARY).exists() and (trained / SUMMARY).exists()
    if finished and _same_models(root, benchmark):
        for directory in (base, trained):
            shutil.rmtree(directory)
    for directory in (base, trained):
        (directory / SUMMARY).unlink(missing_ok=True)
    return base, trained


def _same_models(root: Path, benchmark: str) -> bool:
    """Whether the benchmark was last finished with the present models."""
    lock = read_lock(root)
    made = (lock.out("base", MODELS[0]), lock.out("train", MODELS[1]))
    return made == tuple(lock.dep(f"benchmark@{benchmark}", model) for model in MODELS)


def inputs(root: Path, benchmark: str) -> str:
    """Hash of all that the stage depends on besides values and the models, of which records tell by themselves."""
    paths = (Path(str(path).replace("${item.name}", benchmark)) for path in stage_inputs(root, "benchmark"))
    models = {root / model for model in MODELS}
    return content_hash(*(path for path in paths if path not in models))


def flags(config: Config, benchmark: str) -> list[str]:
    """The options of `python -m benchmarks` that the configuration gives a benchmark, its data aside."""
    values = config.benchmarks.model_dump(exclude={"data", "environments"}) | {
        "style": config.env.prompt,
        "dtype": config.model.dtype,
        "threads": config.deepspeed.threads,
    }
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in values.items() if value is not None]
    given = [text for pair in pairs for text in pair]
    if config.benchmarks.environments:
        given += ["--environments", *config.benchmarks.environments]
    return given


def data_flags(root: Path, config: Config, benchmark: str) -> list[str]:
    """The option that names the published data of a benchmark, nothing where there is none.

    Raises:
        PipelineError: `benchmarks.data` names a folder without data.
    """
    data = published(root, config, benchmark)
    return [] if data is None else ["--data", str(data)]


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
