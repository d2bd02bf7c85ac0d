"""Examines a model: BALROG, VSI-Bench, VisualWebBench, general understanding.

    python -m benchmarks --exam vsi_bench --base models/base --policy models/policy --out exams/mine
    python -m benchmarks --exam balrog --base Qwen/Qwen2-VL-7B-Instruct --out exams/qwen --profile full --agent cot

A killed exam goes on where it was: type the same command again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from benchmarks import examinee, exams, model
from benchmarks.arguments import add_model, parse, positive
from benchmarks.exam import Exam, ExamDataError, MissingPackageError, Profile, Settings
from benchmarks.model import OutOfDeviceMemoryError
from benchmarks.records import RecordsError
from vldac.models.registry import UnsupportedFamilyError
from vldac.runtime import fail_readably, quiet, set_threads


def table(summary: Mapping[str, Any]) -> str:
    """Scores in percent with their standard errors, a line a task, the overall score last."""
    rows = [(f"  {name}", task) for name, task in summary["tasks"].items()]
    width = max(len(name) for name, _ in rows) + 2
    made_here = " (synthetic)" if summary["synthetic"] else ""
    lines = [f"{summary['title']}{made_here}, {summary['count']} records"]
    for name, scores in [*rows, ("overall", summary)]:
        lines.append(f"{name:<{width}} {scores['score']:6.2f} +- {scores['standard_error']:.2f}   n={scores['count']}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--exam", required=True, choices=tuple(exams.EXAMS))
    add_model(made)
    made.add_argument("--out", required=True, type=Path, help="takes records.jsonl and summary.json")
    made.add_argument("--base-out", type=Path, metavar="OUT", help="examine the policy's base as well, into OUT")
    made.add_argument("--overwrite", action="store_true", help="remove records of another exam or model first")
    made.add_argument("--inputs", metavar="DIGEST", help="of what else decides the records; others are another exam")
    made.add_argument("--profile", choices=get_args(Profile), default="short", help="(default: %(default)s)")
    made.add_argument("--data", type=Path, help="folder with the published data (default: the synthetic set)")
    made.add_argument("--style", choices=("full", "terse"), default="full", help="prompts (default: %(default)s)")
    made.add_argument("--parser", choices=("original", "lmms-eval"), default="original", help="(default: %(default)s)")
    made.add_argument("--agent", choices=("naive", "cot"), default="naive", help="of BALROG (default: %(default)s)")
    made.add_argument("--environments", nargs="*", default=(), help="of BALROG (default: all)")
    made.add_argument("--limit", type=positive, help="questions or episodes of each task")
    made.add_argument("--max-new-tokens", type=positive, help="(default: the exam's own)")
    made.add_argument("--seed", type=int, default=0)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    options = parse(parser(), arguments)
    quiet()
    set_threads(options.threads)
    settings = Settings(
        profile=options.profile,
        data=options.data,
        style=options.style,
        parser=options.parser,
        agent=options.agent,
        environments=tuple(options.environments),
        frames=options.frames,
        batch_size=options.batch_size,
        limit=options.limit,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
    )
    exam = exams.make(options.exam, settings)
    if options.base_out is not None:
        if options.policy is None:
            raise ExamDataError("--base-out is for the base of a policy; name the policy with --policy")
        # The policy says in which precision and on which revision it was trained; its base is examined in the same.
        options.dtype = options.dtype or model.described(options.policy).dtype
        options.revision = options.revision or model.revision_of(options.base, options.policy)
        _examine(exam, options, None, options.base_out)
    _examine(exam, options, options.policy, options.out)
    return 0


def _examine(exam: Exam, options: argparse.Namespace, policy: Path | None, out: Path) -> None:
    vlm = model.load(options.base, policy, dtype=options.dtype, revision=options.revision)
    examined = {
        "digest": model.digest(vlm, options.base, policy),
        "dtype": str(next(vlm.parameters()).dtype),
        "max_pixels": options.max_pixels,
        "min_pixels": options.min_pixels,
    }
    sitting = examinee.VLMExaminee(
        vlm, max_pixels=options.max_pixels, min_pixels=options.min_pixels, tokens_at_once=options.tokens_at_once
    )
    started = time.monotonic()
    summary = exams.sit(exam, sitting, out, examined, inputs=options.inputs, overwrite=options.overwrite)
    print(table(summary))
    print(f"{time.monotonic() - started:.0f} s; {out / exams.SUMMARY}", flush=True)


if __name__ == "__main__":
    expected = (ExamDataError, MissingPackageError, RecordsError, UnsupportedFamilyError, OutOfDeviceMemoryError)
    sys.exit(fail_readably(main, expected))
