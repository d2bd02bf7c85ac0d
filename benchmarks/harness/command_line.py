"""Command lines from models of options: an argument for each field, with its description and default.

Values are texts until the model has validated them, so that a bound or a choice is written in one place.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from benchmarks.harness.options import Options
from vldac.config import explain

AnyOptions = TypeVar("AnyOptions", bound=Options)


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the model: which one, and the precision and threads that it runs with."""
    parser.add_argument("--base", required=True, help="a model: a directory, or a hub id")
    parser.add_argument("--policy", type=Path, help="a trained policy on that base; without it, the base answers")
    add_loading(parser)


def add_loading(parser: argparse.ArgumentParser) -> None:
    """Adds how a model is loaded: its revision, precision and threads."""
    parser.add_argument(
        "--revision", help="branch, tag or commit of a hub id (default: the policy's own, or the newest)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="(default: the policy's own, or as the base was saved)"
    )
    parser.add_argument("--threads", type=not_negative, help="CPU threads; 0 for all cores (default: 1)")


def check_model(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Ends the process with one line where options of `add_model` contradict each other."""
    if parsed.revision is not None and Path(parsed.base).is_dir():
        parser.error(f"--revision is for a model of a hub, and {parsed.base} is a directory; leave it out")


def add_options(
    parser: argparse._ActionsContainer, models: Iterable[type[Options]], only: Collection[str] | None = None
) -> None:
    """Adds an argument for each field of the models; what models have in common is added once.

    Args:
        parser: a parser, or a group of one; what is not given is no attribute of what it parses.
        models: of the benchmarks that are asked for.
        only: fields to add; None adds all.
    """
    added: set[str] = set()
    for model in models:
        for name, field in model.model_fields.items():
            if name not in added and (only is None or name in only):
                added.add(name)
                parser.add_argument(flag(name), help=_help(field), **_kind(field), default=argparse.SUPPRESS)


def given(parsed: argparse.Namespace, model: type[Options]) -> dict[str, Any]:
    """The fields of a model that a command line gives, as they are written."""
    return {name: getattr(parsed, name) for name in model.model_fields if hasattr(parsed, name)}


def validated(model: type[AnyOptions], values: Mapping[str, Any], error: Callable[[str], Any]) -> AnyOptions:
    """Options from what a command line gives.

    Args:
        model: of the options.
        values: by name of field; texts are read as the field's type says.
        error: is called with one line where a value is wrong, and must not return.
    """
    try:
        return model.model_validate(dict(values), strict=False)
    except ValidationError as problem:
        first = problem.errors()[0]
        line = explain({**first, "loc": tuple(flag(str(part)) for part in first["loc"][:1])}, Options)
        if not first["loc"]:  # the fields contradict each other, and the message names them
            for name in (name for name in model.model_fields if "_" in name):
                line = line.replace(name, flag(name))
        error(line)
        raise


def flag(name: str) -> str:
    """The argument of a field: `--batch-size` of `batch_size`."""
    return f"--{name.replace('_', '-')}"


def _help(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, (tuple, list)):
        default = " ".join(map(str, default))
    suffix = "" if default in (None, "") else f" (default: {default})"
    return ((field.description or "") + suffix).strip().replace("%", "%%")


def _kind(field: FieldInfo) -> dict[str, Any]:
    """How argparse reads a field: a flag, several texts, or one text, which the model converts."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(annotation) in (tuple, list):
        return {"nargs": "*"}
    if get_origin(annotation) is Literal:
        return {"metavar": "{" + ",".join(map(str, get_args(annotation))) + "}"}
    return {}
