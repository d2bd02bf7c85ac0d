"""The options of every command that benchmarks a model: which model, which pictures, how many at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.harness import runner
from vldac.evaluation.model import Dtype


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(0, text)


def _at_least(lowest: int, text: str) -> int:
    if not text.isdecimal() or int(text) < lowest:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {lowest}")
    return int(text)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the model, its pictures and its batches."""
    add = parser.add_argument
    add("--base", required=True, help="a model: a directory, or a hub id")
    add("--revision", help="branch, tag or commit of a hub id (default: the policy's own, or the newest)")
    add("--policy", type=Path, help="a trained policy on that base; without it, the base is benchmarked")
    add("--dtype", choices=get_args(Dtype), help="(default: the policy's own, or as the base was saved)")
    add("--frames", type=positive, default=32, help="of a video (default: %(default)s)")
    add("--max-pixels", type=positive, default=runner.MAX_PIXELS, help="(default: %(default)s)")
    add("--min-pixels", type=positive, default=runner.MIN_PIXELS, help="(default: %(default)s)")
    add("--batch-size", type=positive, default=16, help="questions at once (default: %(default)s)")
    add(
        "--tokens-at-once",
        type=positive,
        default=runner.TOKENS_AT_ONCE,
        help="of a batch; lower it where memory is short (default: %(default)s)",
    )
    add("--threads", type=not_negative, default=1, help="CPU threads; 0 for all cores (default: %(default)s)")


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads a command line, and ends the process with one line where options of `add_model` contradict each other."""
    options = parser.parse_args(arguments)
    if options.min_pixels > options.max_pixels:
        parser.error(f"--min-pixels {options.min_pixels} is above --max-pixels {options.max_pixels}; lower it")
    if options.revision is not None and Path(options.base).is_dir():
        parser.error(f"--revision is for a model of a hub, and {options.base} is a directory; leave it out")
    return options
