"""Stage `exam`: one exam of the base and of the trained model.

DVC keeps the outputs of this stage, so that a killed exam goes on from its records. What it keeps is not always wanted:
a summary says that an exam is finished, and a stage that begins has not finished; and an exam that DVC runs although it
is finished has changed, or is forced.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipelines import cli
from pipelines.exam_data import published
from pipelines.exams import HOMES, SUMMARY
from pipelines.project import content_hash, read_lock, stage_inputs
from pipelines.stages.common import arguments, require, run_module
from vldac.config import Config, load

MODELS = ("models/base", "models/policy")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes exams/base/EXAM and exams/trained/EXAM, each with exam.json, records.jsonl and summary.json."""
    options = arguments(argv, __doc__, exam=True)
    root, exam, config = options.root, options.exam, load(options.params)
    data = data_flags(root, config, exam)
    if config.exams.data is not None and not data and exam != "understanding":  # which has no published data
        print(f"{exam}: no folder {exam} in {config.exams.data}; the synthetic set is examined", flush=True)
    base, trained = begin(root, exam)
    run_module(
        "benchmarks",
        *("--exam", exam, "--base", root / MODELS[0], "--policy", root / MODELS[1]),
        *("--base-out", base, "--out", trained, "--overwrite", "--inputs", inputs(root, exam)),
        *data,
        *flags(config, exam),
        root=root,
    )
    require(trained / SUMMARY)
    return 0


def begin(root: Path, exam: str) -> tuple[Path, Path]:
    """Takes away what DVC kept and is not to be gone on from, and returns where the base's and the policy's records go.

    Records of the base stay when only the policy has changed: `python -m benchmarks` knows whose they are.
    """
    base, trained = (root / HOMES[model] / exam for model in ("base", "trained"))
    finished = (base / SUMMARY).exists() and (trained / SUMMARY).exists()
    if finished and _same_models(root, exam):
        for directory in (base, trained):
            shutil.rmtree(directory)
    for directory in (base, trained):
        (directory / SUMMARY).unlink(missing_ok=True)
    return base, trained


def _same_models(root: Path, exam: str) -> bool:
    """Whether the exam was last finished with the present models."""
    lock = read_lock(root)
    made = (lock.out("base", MODELS[0]), lock.out("train", MODELS[1]))
    return made == tuple(lock.dep(f"exam@{exam}", model) for model in MODELS)


def inputs(root: Path, exam: str) -> str:
    """Hash of all that the stage depends on besides values and the models, of which records tell by themselves."""
    paths = (Path(str(path).replace("${item.name}", exam)) for path in stage_inputs(root, "exam"))
    models = {root / model for model in MODELS}
    return content_hash(*(path for path in paths if path not in models))


def flags(config: Config, exam: str) -> list[str]:
    """The options of `python -m benchmarks` that the configuration gives an exam, its data aside."""
    values = config.exams.model_dump(exclude={"data", "environments"}) | {
        "style": config.env.prompt,
        "dtype": config.model.dtype,
        "threads": config.deepspeed.threads,
    }
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in values.items() if value is not None]
    given = [text for pair in pairs for text in pair]
    if config.exams.environments:
        given += ["--environments", *config.exams.environments]
    return given


def data_flags(root: Path, config: Config, exam: str) -> list[str]:
    """The option that names the published data of an exam, nothing where there is none.

    Raises:
        PipelineError: `exams.data` names a folder without data.
    """
    data = published(root, config, exam)
    return [] if data is None else ["--data", str(data)]


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
