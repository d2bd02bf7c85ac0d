"""A trained policy on disk: what `train` writes and everything after it reads.

A base directory is a Hugging Face model, or a pointer to one on a hub. A policy directory holds an adapter or whole
weights, the value head, and vldac.json, which says what it is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from vldac import parsing
from vldac.config import ModelConfig
from vldac.parsing import ParsedResponse
from vldac.vlm import VLM

if TYPE_CHECKING:
    from vldac.value_head import ValueHead

POINTER = "base.json"
DESCRIPTION = "vldac.json"
_PIECE = 2**20  # bytes read at a time


def write_pointer(directory: Path, base: str, revision: str | None) -> None:
    """Makes `directory` stand for a model that lies elsewhere: a hub id, or a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / POINTER).write_text(json.dumps({"base": base, "revision": revision}, indent=1) + "\n")


def resolve(directory: str | Path) -> tuple[str, str | None]:
    """The model that a base directory stands for, a directory or a hub id, and the revision that its pointer names.

    Raises:
        FileNotFoundError: it holds neither a model nor a pointer to one.
    """
    directory = Path(directory)
    if (pointer := directory / POINTER).exists():
        target = json.loads(pointer.read_text(encoding="utf-8"))
        return target["base"], target["revision"]
    if (directory / "config.json").exists():
        return str(directory), None
    if (directory / DESCRIPTION).exists():
        raise FileNotFoundError(
            f"{directory} is a trained policy, no base; name the base that it was trained on, and {directory} as its "
            f"policy: --base models/base --policy {directory}"
        )
    raise FileNotFoundError(f"{directory} holds no model; make it with: vldac warm-start --out {directory}")


def digest(directory: Path) -> str:
    """A hash that tells model directories apart: names, sizes and contents of all files.

    A pointer to another directory counts as that directory; one to a hub as the id and revision that it names. Every
    byte is read: about a second for each gigabyte.
    """
    if (directory / POINTER).exists() and (target := Path(resolve(directory)[0])).is_dir():
        directory = target
    found = hashlib.sha256()
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        found.update(f"{path.relative_to(directory)} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                found.update(piece)
    return found.hexdigest()[:16]


def load_base(directory: str | Path, config: ModelConfig) -> VLM:
    """Loads a base directory, following a pointer.

    Raises:
        OSError: nothing is there, or the hub cannot be reached.
    """
    base, revision = resolve(directory)
    return VLM.from_pretrained(base, revision=revision, dtype=getattr(torch, config.dtype))


def save(directory: Path, vlm: VLM, value_head: ValueHead, description: dict[str, Any]) -> None:
    """Writes a policy directory; weights as safetensors only."""
    directory.mkdir(parents=True, exist_ok=True)
    vlm.model.save_pretrained(directory, safe_serialization=True)
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
    save_file(
        {k: v.contiguous().cpu() for k, v in value_head.state_dict().items()}, directory / "value_head.safetensors"
    )
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")


def load(directory: str | Path, base: str | Path, config: ModelConfig) -> VLM:
    """Loads a trained policy: whole weights, or the base with the trained adapter on it.

    Raises:
        OSError: either directory is missing or incomplete.
    """
    directory = Path(directory)
    description = describe(directory)
    if not description["adapter"]:
        return VLM.from_pretrained(directory, dtype=getattr(torch, config.dtype))
    vlm = load_base(base, config)
    vlm.load_adapter(directory)
    return vlm.eval()


def describe(directory: Path) -> dict[str, Any]:
    """What a policy directory says of itself."""
    try:
        value: dict[str, Any] = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{directory} holds no trained policy: {DESCRIPTION} is missing") from None
    return value


@dataclass(frozen=True)
class Decision:
    """What a policy did with one observation.

    Attributes:
        text: the response, word for word.
        answer: as it was read, None if it could not be.
    """

    text: str
    answer: ParsedResponse | None


class Actor:
    """A policy ready to act on single observations.

    Args:
        vlm: the policy.
        temperature: of sampling; 0 takes the likeliest token.
        max_new_tokens: length limit of a response.
        seed: of the sampling.
    """

    def __init__(self, vlm: VLM, *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0) -> None:
        self.vlm, self.temperature, self.max_new_tokens = vlm, temperature, max_new_tokens
        self.generator = torch.Generator(vlm.device).manual_seed(seed)

    @classmethod
    def from_pretrained(cls, directory: str | Path, base: str | Path, **options: Any) -> Actor:
        """Loads a policy directory and its base; responses may be as long as they were in training."""
        config = describe(Path(directory))["config"]
        options.setdefault("max_new_tokens", config["rollout"]["max_new_tokens"])
        return cls(load(directory, base, ModelConfig.model_validate(config["model"])), **options)

    def sampling(self, temperature: float, seed: int) -> Actor:
        """The same policy with another temperature and a generator of its own."""
        return Actor(self.vlm, max_new_tokens=self.max_new_tokens, temperature=temperature, seed=seed)

    def act(self, frames: NDArray[np.uint8], prompt: str) -> Decision:
        """Answers one observation: frames (K, H, W, 3) uint8 and the prompt text."""
        encoded = self.vlm.encode([frames], [prompt])
        (response,) = self.vlm.generate(
            encoded, max_new_tokens=self.max_new_tokens, temperature=self.temperature, generator=self.generator
        )
        text = self.vlm.decode(response.token_ids)
        return Decision(text, parsing.parse_response(text))
