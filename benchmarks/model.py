"""The model that is examined: a base, any Hugging Face model, or a trained policy on its base."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from vldac import policy
from vldac.config import ModelConfig
from vldac.vlm import VLM


def load(base: str | Path, policy_dir: Path | None, config: ModelConfig | None = None) -> VLM:
    """The model to examine, where it runs fastest: a base model or a trained policy on its base.

    Args:
        base: directory of a model or of a pointer to one, or a hub id.
        policy_dir: of a trained policy; None examines the base.
        config: precision; None takes what the policy says, or float32.

    Raises:
        OSError: nothing is there, or its files are incomplete.
    """
    if config is None:
        config = described(policy_dir) if policy_dir is not None else ModelConfig()
    if policy_dir is not None and not policy.describe(policy_dir)["adapter"]:
        vlm = VLM.from_pretrained(policy_dir, dtype=getattr(torch, config.dtype))
    else:
        vlm = policy.load_base(base, config) if Path(base).is_dir() else _from_hub(str(base), config)
        if policy_dir is not None:
            vlm.load_adapter(policy_dir)
    return vlm.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def described(policy_dir: Path) -> ModelConfig:
    """What a policy says of its model: precision, adapter, base."""
    return ModelConfig.model_validate(policy.describe(policy_dir)["config"]["model"])


def _from_hub(base: str, config: ModelConfig) -> VLM:
    try:
        return VLM.from_pretrained(base, revision=config.revision, dtype=getattr(torch, config.dtype))
    except OSError as error:
        raise OSError(f"{base} is no directory, and as a hub id it cannot be loaded: {error}") from error


def digest(vlm: VLM, base: str | Path, policy_dir: Path | None) -> str:
    """A hash that tells models apart: of the files of a directory, of the commit of what a hub has."""
    commit = getattr(vlm.backbone.config, "_commit_hash", None)
    found = hashlib.sha256(f"{commit}\n".encode())
    found.update((policy.digest(Path(base)) if Path(base).is_dir() else str(base)).encode())
    if policy_dir is not None:
        found.update(policy.digest(policy_dir).encode())
    return found.hexdigest()[:16]
