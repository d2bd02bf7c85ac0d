"""A trained policy on disk: what `train` writes and everything after it reads.

A base directory is a Hugging Face model, or a pointer to one on a hub. A policy directory holds an adapter or whole
weights, the value head if a critic was trained, and vldac.json, which says what it is.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vldac.config import Config, ConfigError, ModelConfig, parse, presets
from vldac.models.files import WeightsError, explain_no_model, require_model
from vldac.models.vlm import VLM
from vldac.utils.files import honor_umask, model_digest, model_files, write_json

POINTER = "base.json"
DESCRIPTION = "vldac.json"
#: Values of `ModelConfig` that say how any model is loaded; arguments of `VLM.from_pretrained`.
LOADED = frozenset({"family", "thinking", "system_message", "max_pixels"})


def write_pointer(directory: Path, base: str, revision: str | None) -> None:
    """Makes `directory` stand for a model that lies elsewhere: a hub id, or a directory, whose digest is kept."""
    held = {"digest": model_digest(Path(base))} if Path(base).is_dir() else {}
    write_json(directory / POINTER, {"base": base, "revision": revision, **held})


def resolve(directory: str | Path) -> tuple[str, str | None]:
    """The model that a base directory stands for, a directory or a hub id, and the revision that its pointer names.

    Raises:
        FileNotFoundError: it holds neither a model nor a pointer to one, or points to a directory that is not here.
    """
    directory = Path(directory)
    if (pointer := directory / POINTER).exists():
        target = _read(pointer, ("base", "revision"))
        if not isinstance(target["base"], str) or not isinstance(target["revision"], str | None):
            raise _damaged(pointer)
        if "digest" in target and not Path(target["base"]).is_dir():
            raise FileNotFoundError(
                f"{directory} stands for the directory {target['base']}, which is not on this machine; name the place "
                "where its files are: --base DIRECTORY"
            )
        return target["base"], target["revision"]
    if (directory / "config.json").exists():
        return str(directory), None
    if (directory / DESCRIPTION).exists():
        raise FileNotFoundError(
            f"{directory} is a trained policy, no base; name the base that it was trained on, and {directory} as its "
            f"policy: --base models/base --policy {directory}"
        )
    raise FileNotFoundError(explain_no_model(directory))


def digest(directory: Path) -> str:
    """A hash that tells model directories apart: names and contents of the files that are loaded.

    A pointer to another directory counts as that directory; one to a hub as the id and revision that it names. Every
    byte is read: about a second for each gigabyte. What a download leaves beside the model does not count.
    """
    if (directory / POINTER).exists() and (target := Path(resolve(directory)[0])).is_dir():
        directory = target
    return model_digest(directory)


def stamp(*directories: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What tells model directories from what they were before, without reading them: names, inodes, sizes, times.

    A pointer to another directory counts as that directory, too.

    Raises:
        OSError: a directory is missing, or one to which it points.
    """
    files: list[Path] = []
    for directory in directories:
        files += model_files(directory)
        if (directory / POINTER).exists() and (target := Path(resolve(directory)[0])).is_dir():
            files += model_files(target)
    stats = [(str(file), file.stat()) for file in files]
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def choose_base(directory: Path | None, model: ModelConfig, run_dir: Path) -> Path:
    """The base directory of a run: the one that was named, models/base if it is `model.base`, or a pointer to that.

    Args:
        directory: that a user named; None for none.
        model: the model that the run is configured for.
        run_dir: takes a pointer where no directory stands for `model.base` yet.

    Raises:
        ConfigError: the directory that was named, or models/base of a tiny model, holds another model.
    """
    default = Path("models/base")
    if directory is not None or model.base == "tiny":
        require_base(directory or default, model)
        return directory or default
    if default.exists():
        with contextlib.suppress(ConfigError):
            require_base(default, model)
            return default
    write_pointer(run_dir / "base", model.base, model.revision)
    return run_dir / "base"


def require_name(base: str) -> None:
    """Checks that `model.base` may stand for a model: "tiny", the directory of one, or a hub id.

    Raises:
        ConfigError: it is none of them.
        FileNotFoundError: the directory holds no model.
        WeightsError: its files are not those of one model.
    """
    if base == "tiny":
        return
    if Path(base).is_dir():
        require_model(Path(base))
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        near = difflib.get_close_matches(base.lower(), presets.names("model"), n=1, cutoff=0.5)
        hint = f"; did you mean the preset model={near[0]}?" if near else ""
        raise ConfigError(
            f"model.base {base!r} is neither 'tiny', nor a directory, nor a hub id such as "
            f"Qwen/Qwen2-VL-7B-Instruct{hint}"
        )


def require_base(directory: Path, model: ModelConfig) -> None:
    """Checks that a base directory holds the model that a run is configured for.

    Raises:
        ConfigError: it holds another one.
        FileNotFoundError: it holds none.
        WeightsError: its files are not those of one model.
    """
    target, revision = resolve(directory)
    if Path(target).is_dir():
        require_model(Path(target))
    if model.base != "tiny":
        if (target, revision) != (model.base, model.revision) and not _same(Path(target), Path(model.base)):
            found = f"{target}{f' at revision {revision}' if revision else ''}"
            raise ConfigError(
                f"{directory} holds {found}, but model.base is {model.base}"
                f"{f' at revision {model.revision}' if model.revision else ''}; name the base directory of that model "
                "with --base, or change model.base"
            )
        return
    from vldac.models.tiny import model_config  # noqa: PLC0415  # only this branch needs tokenizers

    found = json.loads((Path(target) / "config.json").read_text(encoding="utf-8"))
    asked = model_config(model.tiny, rows=model.tiny.vocabulary).to_dict()
    keys = [("model_type",), *(("text_config", key) for key in _SHAPE), ("vision_config", "depth")]
    if wrong := [".".join(key) for key in keys if _at(found, key) != _at(asked, key)]:
        raise ConfigError(
            f"{directory} holds another model than model.tiny describes (it differs in {', '.join(wrong)}); make the "
            f"base again with vldac.warm_start, or name the model that it holds: --set model.base={directory}"
        )


#: What tells small models of one family apart.
_SHAPE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")


def _at(values: Any, key: tuple[str, ...]) -> Any:
    for part in key:
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _same(a: Path, b: Path) -> bool:
    return a.is_dir() and b.is_dir() and (a.samefile(b) or digest(a) == digest(b))


def require_unchanged(directory: Path) -> None:
    """Checks that the directory to which a base points, if it does, holds the files that it held then.

    Raises:
        WeightsError: it holds others.
    """
    pointer = directory / POINTER
    if not pointer.exists():
        return
    target, recorded = resolve(directory)[0], _read(pointer, ()).get("digest")
    if recorded is not None and Path(target).is_dir() and (found := model_digest(Path(target))) != recorded:
        raise WeightsError(
            f"{target} has changed since {directory} was made of it (digest {recorded}, now {found}); bring its files "
            f"back, or make the base again: dvc repro base, or vldac warm-start --out {directory}"
        )


def load_base(directory: str | Path, config: ModelConfig) -> VLM:
    """Loads a base directory, following a pointer.

    Raises:
        OSError: nothing is there, it is not what it was when it was pointed to, or the hub cannot be reached.
    """
    require_unchanged(Path(directory))
    base, revision = resolve(directory)
    return VLM.from_pretrained(base, revision=revision, **_how(config))


def _how(config: ModelConfig) -> dict[str, Any]:
    """How a model is loaded, whichever it is."""
    return {"dtype": getattr(torch, config.dtype), **config.model_dump(include=set(LOADED))}


def save(
    directory: Path,
    vlm: VLM,
    value_head: Mapping[str, Tensor] | None,
    description: dict[str, Any],
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Writes a policy directory; weights as safetensors only.

    Args:
        directory: takes the files.
        vlm: the policy.
        value_head: weights and statistics of the critic; None for an algorithm without one.
        description: what vldac.json says.
        weights: those of `vlm.model`, or of its adapter, by name, where it does not hold them whole itself.
    """
    directory.mkdir(parents=True, exist_ok=True)
    vlm.model.save_pretrained(directory, safe_serialization=True, state_dict=weights)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    if description["adapter"]:
        # PEFT names the base by where it lay; the same run in another directory must give the same files.
        path = directory / "adapter_config.json"
        adapter = json.loads(path.read_text(encoding="utf-8"))
        base = description["config"]["model"]["base"]
        adapter["base_model_name_or_path"] = None if base == "tiny" or Path(base).exists() else base
        path.write_text(json.dumps(adapter, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    else:
        vlm.tokenizer.save_pretrained(directory)
        vlm.image_processor.save_pretrained(directory)
    if value_head is not None:
        save_file({k: v.contiguous().cpu() for k, v in value_head.items()}, directory / "value_head.safetensors")
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    honor_umask(directory)


def load(directory: str | Path, base: str | Path, config: ModelConfig) -> VLM:
    """Loads a trained policy: whole weights, or the base with the trained adapter on it.

    Raises:
        OSError: either directory is missing or incomplete.
    """
    directory = Path(directory)
    description = describe(directory)
    if not description["adapter"]:
        return VLM.from_pretrained(directory, **_how(config))
    require_own_base(directory, Path(base))
    vlm = load_base(base, config)
    vlm.load_adapter(directory)
    return vlm.eval()


def identity(base: Path) -> dict[str, str | None]:
    """What a policy records of the base that it was trained on, by which another base is refused later."""
    target, revision = resolve(base)
    if not Path(target).is_dir():
        return {"model": target, "revision": revision, "digest": None, "model_type": None}
    described = json.loads((Path(target) / "config.json").read_text(encoding="utf-8"))
    return {"model": None, "revision": None, "digest": digest(base), "model_type": described.get("model_type")}


def require_own_base(directory: Path, base: Path) -> None:
    """Checks that an adapter goes onto the base that it was trained on.

    A base that was named by its hub id is not held against a directory: what is in it may be that model.

    Raises:
        WeightsError: `base` is another model.
    """
    trained_on = describe(directory).get("base")
    if trained_on is None or not base.is_dir():
        return
    found = identity(base)
    for key in ("model_type", "digest", "model", "revision"):
        if None not in (trained_on.get(key), found[key]) and trained_on[key] != found[key]:
            raise WeightsError(
                f"{directory} was trained on another base than {base} ({key} {trained_on[key]}, here {found[key]}); "
                "name its own base"
            )


def describe(directory: Path) -> dict[str, Any]:
    """What a policy directory says of itself.

    Raises:
        FileNotFoundError: it says nothing.
        WeightsError: vldac.json is damaged.
    """
    if not (directory / DESCRIPTION).exists():
        raise FileNotFoundError(f"{directory} holds no trained policy: {DESCRIPTION} is missing")
    value = _read(directory / DESCRIPTION, ("adapter", "config"))
    if not isinstance(value["config"], dict) or not isinstance(value.get("base"), dict | None):
        raise _damaged(directory / DESCRIPTION)
    return value


def recorded_config(directory: Path, *sections: str) -> Config:
    """What a policy says of how it was trained, such as its section `model`; all else has its default.

    Raises:
        FileNotFoundError: it says nothing.
        WeightsError: vldac.json is damaged, or of another version of this code.
    """
    try:
        recorded = describe(directory)["config"]
        return parse({name: recorded[name] for name in sections if recorded.get(name) is not None})
    except ConfigError as error:
        raise WeightsError(
            f"{directory / DESCRIPTION} is damaged, or of another version of vldac ({str(error).splitlines()[0]}); "
            "fetch or train the policy again"
        ) from None


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """A JSON object with these keys."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    if not isinstance(value, dict) or not value.keys() >= set(keys):
        raise _damaged(path)
    return value


def _damaged(path: Path) -> WeightsError:
    return WeightsError(f"{path} is damaged; fetch or make {path.parent} again")
