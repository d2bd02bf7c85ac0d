"""The model that is benchmarked: a base, any Hugging Face model, or a trained policy on its base."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch

from vldac import policy
from vldac.config import ModelConfig
from vldac.models.files import require_model
from vldac.models.vlm import VLM
from vldac.utils.errors import UserError

Dtype = Literal["float32", "bfloat16"]


class OutOfDeviceMemoryError(UserError):
    """The memory of the device is full; the message is one line, and says what needs less."""


def load(
    base: str | Path,
    policy_dir: Path | None,
    *,
    dtype: Dtype | None = None,
    revision: str | None = None,
    like: ModelConfig | None = None,
) -> VLM:
    """The model to benchmark, where it runs fastest: a base model or a trained policy on its base.

    Args:
        base: directory of a model or of a pointer to one, or a hub id.
        policy_dir: of a trained policy; None benchmarks the base.
        dtype: of the weights; None takes what the policy says, or leaves those of a base as they were saved.
        revision: of a hub id; None takes what the policy says of this base, or the hub's main branch. A directory has
            none.
        like: of the run whose base this is: it is read as the run reads it, by the same family, with the same system
            message and limits. A policy says so itself.

    Raises:
        OSError: nothing is there, or its files are incomplete.
        UnsupportedFamilyError: the model is of a family that is not supported.
        OutOfDeviceMemoryError: the device's memory is too small for it.
    """
    options = {} if like is None else like.model_dump(include=set(policy.LOADED))
    if policy_dir is not None:
        model = described(policy_dir)
        options = model.model_dump(include=set(policy.LOADED))
        dtype = dtype or model.dtype
        revision = revision or revision_of(base, policy_dir)
    options["dtype"] = getattr(torch, dtype) if dtype else "auto"
    if policy_dir is not None and not policy.describe(policy_dir)["adapter"]:
        vlm = VLM.from_pretrained(policy_dir, **options)
    elif Path(base).is_dir():
        policy.require_unchanged(Path(base))
        target, revision = policy.resolve(base)
        vlm = VLM.from_pretrained(target, revision=revision, **options)
    else:
        vlm = _from_hub(str(base), revision, options)
    if policy_dir is not None and policy.describe(policy_dir)["adapter"]:
        policy.require_own_base(policy_dir, Path(base))
        vlm.load_adapter(policy_dir)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        vlm = vlm.eval().to(device)
        vlm.keep_head()
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemoryError(
            f"the model does not fit into the memory of {device}; take --dtype bfloat16, or a larger device"
        ) from error
    return vlm


def check(base: Path, policy_dir: Path) -> None:
    """Checks the files of a trained policy and of its base by their headers, before anything is played or loaded.

    Raises:
        OSError: files are missing, or are not those of one model.
    """
    if base.is_dir() and (target := Path(policy.resolve(base)[0])).is_dir():
        require_model(target)
    if not policy.describe(policy_dir)["adapter"]:
        require_model(policy_dir)


def described(policy_dir: Path) -> ModelConfig:
    """What a policy says of its model: precision, adapter, base."""
    return policy.recorded_config(policy_dir, "model").model


def revision_of(base: str | Path, policy_dir: Path) -> str | None:
    """The revision of `base` that a policy was trained on; None where it names none, or was trained on another base."""
    model = described(policy_dir)
    return model.revision if model.base == str(base) else None


def _from_hub(base: str, revision: str | None, options: dict[str, Any]) -> VLM:
    try:
        return VLM.from_pretrained(base, revision=revision, **options)
    except OSError as error:
        raise OSError(f"{base} is no directory, and as a hub id it cannot be loaded: {error}") from error


def digest(vlm: VLM, base: str | Path, policy_dir: Path | None) -> str:
    """A hash that tells models apart: by every file of a directory, by the commit of what a hub has.

    All files of a directory are read; see `vldac.policy.digest`.
    """
    found = hashlib.sha256(f"{vlm.commit}\n".encode())
    found.update((policy.digest(Path(base)) if Path(base).is_dir() else str(base)).encode())
    if policy_dir is not None:
        found.update(policy.digest(policy_dir).encode())
    return found.hexdigest()[:16]
