"""Stage `benchmark`: one benchmark of the base and of the trained model.

DVC keeps the outputs of this stage, so that a killed benchmark resumes from its records. Some of them must go first:
the summary, which says that a benchmark is finished; and the records of a finished benchmark, which DVC only runs again
if something has changed or the stage is forced.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import registry, section
from benchmarks.harness.options import Options
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
    chosen = options_of(root, config, benchmark)
    folder = section.parse(config.benchmarks).data
    if folder is not None and chosen.data is None and registry.get(benchmark).published:
        print(f"{benchmark}: no folder {benchmark} in {folder}; the synthetic set is used", flush=True)
    base, trained = begin(root, benchmark)
    run_module(
        "benchmarks",
        *("--benchmark", benchmark, "--base", root / MODELS[0], "--policy", root / MODELS[1]),
        *("--base-out", base, "--out", trained, "--overwrite", "--inputs", inputs(root, benchmark)),
        *("--options", chosen.model_dump_json()),
        *("--dtype", config.model.dtype, "--threads", str(config.deepspeed.threads)),
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
    """Hash of all that the stage depends on besides values and the models, which records name themselves."""
    paths = (Path(str(path).replace("${item.name}", benchmark)) for path in stage_inputs(root, "benchmark"))
    models = {root / model for model in MODELS}
    return content_hash(*(path for path in paths if path not in models))


def options_of(root: Path, config: Config, benchmark: str) -> Options:
    """The options of a benchmark that the configuration gives; its published data is found below `benchmarks.data`.

    Raises:
        PipelineError: `benchmarks.data` names a folder without data.
        ConfigError: the section `benchmarks` is wrong.
    """
    data = published(root, config, benchmark)
    return section.parse(config.benchmarks).options(benchmark, style=config.env.prompt, data=data)


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
