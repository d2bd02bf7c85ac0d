"""What lies in a model's directory, looked at before any of it is loaded: a second, where loading may take minutes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vldac.utils.errors import UserError
from vldac.utils.files import model_files

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
#: How a file of git-lfs begins that stands for one which was not downloaded.
_LFS = b"version https://git-lfs"
_HUB_FOLDER = "models--"
_HUB_ID = re.compile(r"(?!models/)[\w.-]+/[\w.-]+")
_EMBEDDING = "embed_tokens.weight"


class WeightsError(UserError, OSError):
    """Weights that are not those of the model that they are to be loaded into; the message is one line."""


def explain_no_model(directory: Path) -> str:
    """Why a directory without config.json is no model, and what to name instead."""
    if (directory / "adapter_config.json").exists():
        return (
            f"{directory} holds an adapter, and no model; name the model that it was trained on, or merge the two "
            "(PEFT's merge_and_unload) and name the result"
        )
    if snapshots := sorted(directory.glob(f"snapshots/*/{CONFIG}")):
        hub_id = directory.name.removeprefix(_HUB_FOLDER).replace("--", "/")
        return f"{directory} is the hub's cache of a model; name {snapshots[-1].parent}, or its hub id {hub_id}"
    if cached := sorted(directory.glob(f"{_HUB_FOLDER}*")):
        hub_id = cached[0].name.removeprefix(_HUB_FOLDER).replace("--", "/")
        return f"{directory} is the hub's cache, and no model; name a hub id, such as {hub_id}"
    if directory.is_dir() and any(directory.iterdir()):
        return f"{directory} holds no model: {CONFIG} is missing; name the directory that has it"
    hub = f"; a model of the hub is named by --set model.base={directory}" if _HUB_ID.fullmatch(str(directory)) else ""
    return f"{directory} holds no model; make it with: vldac warm-start --out {directory}{hub}"


def require_model(directory: Path) -> None:
    """Checks a model's directory by the headers of its files.

    Raises:
        FileNotFoundError: it is no model.
        WeightsError: files are missing, stand for others or are damaged, or are of another model than config.json says.
    """
    if not (directory / CONFIG).exists():
        raise FileNotFoundError(explain_no_model(directory))
    for path in model_files(directory):
        require_downloaded(path)
    config = _read(directory / CONFIG)
    shards = _shards(directory)
    if missing := [path.name for path in shards if not path.is_file()]:
        raise WeightsError(f"{directory} lacks {', '.join(missing[:3])}; download the model again")
    rows = _text(config).get("vocab_size")
    for path in shards:
        try:
            with safe_open(path, framework="pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys() if name.endswith(_EMBEDDING)}  # noqa: SIM118  # it is no mapping
        except SafetensorError as error:
            raise WeightsError(f"{path} is damaged or cut short ({error}); download it again") from None
        for name, shape in shapes.items():
            if rows is not None and shape[0] != rows:
                raise WeightsError(
                    f"{path} has {shape[0]} rows of {name}, but vocab_size of {directory / CONFIG} is {rows}; "
                    "download the model again, or mend its config.json"
                )


def require_downloaded(path: Path) -> None:
    """Checks that a file is not one of git-lfs that stands for another.

    Raises:
        WeightsError: it is.
    """
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise WeightsError(
                f"{path} stands for a file that git-lfs has not downloaded; type `git lfs pull` in {path.parent}"
            )


def _shards(directory: Path) -> list[Path]:
    if (directory / INDEX).exists():
        names = _read(directory / INDEX).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise WeightsError(f"{directory / INDEX} names no files; download it again")
        return [directory / name for name in sorted(set(names.values()))]
    return [path for path in (directory / WEIGHTS,) if path.exists()]


def _text(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the language model."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is no JSON object; download it again")
    return value
