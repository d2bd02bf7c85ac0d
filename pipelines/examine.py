"""Sits exams with a registered version, a directory or a model of a hub: `make evaluate MODEL=... BENCH=...`.

    python -m pipelines.examine models:/NAME@champion --exam balrog --profile full --agent cot
    python -m pipelines.examine Qwen/Qwen2-VL-7B-Instruct --exam vsi_bench --data /data/VSI-Bench

Whatever `python -m benchmarks` takes may follow. Results of a registered version are kept with it; those of any model
lie in .local/sittings. A killed exam goes on where it was: type the same command again.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import cli, exams, lineage, process, repro, tracking
from pipelines.project import home, read_json
from pipelines.stages.exam import flags
from vldac.config import load

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

EXAMS = ("understanding", "vsi_bench", "visual_web_bench", "balrog")


def registered(text: str) -> bool:
    """Whether a text names a registered version, and not a directory or a model of a hub."""
    return not Path(text).is_dir() and (text.startswith(("models:/", "vldac-")) or "@" in text)


def sit(root: Path, model: str, exam: str, options: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Examines a model and, where it is a registered version, keeps the result with it.

    Args:
        root: the project.
        model: `models:/NAME@champion` or `NAME/3`, a directory, or a hub id.
        exam: its name.
        options: of `python -m benchmarks`; they win over what a version's own parameters give.
        say: takes every line that the exam prints.

    Returns:
        What summary.json of the exam holds.

    Raises:
        StageError: the exam failed.
        PipelineError: the version cannot be found or fetched.
    """
    if not registered(model):
        return _run(root, exam, ["--base", model, *options], out_of(root, model, exam, options), say)
    with tracking.reachable(root):
        version = lineage.find(tracking.client(root), model)
    with fetched(root, version) as directory:
        options = [*flags(load(directory / "params.yaml"), exam), *options]
        out = out_of(root, f"{version.name}-{version.version}", exam, options)
        paths = ["--base", str(directory / "base"), "--policy", str(directory / "policy")]
        summary = _run(root, exam, [*paths, *options], out, say)
    with tracking.reachable(root):
        client = tracking.client(root)
        exams.record(client, client.get_model_version(version.name, str(version.version)), summary, out)
    return summary


@contextmanager
def fetched(root: Path, version: ModelVersion) -> Iterator[Path]:
    """A version's files, verified, for as long as they are needed: they may be gigabytes, and the registry has them."""
    home(root).mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=home(root), prefix="examined."))
    try:
        lineage.fetch(root, version, directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def out_of(root: Path, model: str, exam: str, options: Sequence[str]) -> Path:
    """Where the records of an exam with these very options are: those of another profile are elsewhere."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")
    told_apart = hashlib.sha256("\0".join([model, *options]).encode()).hexdigest()[:8]
    return home(root) / "sittings" / name / f"{exam}-{told_apart}"


def _run(root: Path, exam: str, options: Sequence[str], out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks", "--exam", exam, *options, "--out", str(out)]
    lines: list[str] = []

    def on_line(line: str) -> None:
        if line:
            lines.append(line)
            say(line)

    if code := process.stream(command, on_line, cwd=root, env=repro.environment()):
        raise repro.failure(f"exam {exam}", code, lines)
    return read_json(out / "summary.json")


def main(argv: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.examine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="models:/NAME@champion, NAME/3, a directory, or a hub id")
    parser.add_argument("--exam", nargs="+", choices=EXAMS, default=EXAMS, help="(default: all of them)")
    options, rest = parser.parse_known_args(argv)
    root, failed = Path.cwd(), []
    for exam in options.exam:
        try:
            sit(root, options.model, exam, rest, lambda line: print(line, flush=True))
        except repro.StageError as error:  # one exam must not hide the others
            print(f"error: {error}", file=sys.stderr)
            failed.append(exam)
    if failed:
        raise cli.PipelineError(f"not examined: {', '.join(failed)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
