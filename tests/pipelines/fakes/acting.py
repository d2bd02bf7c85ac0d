"""Stands in for `vldac.acting`: answers with what it was shown, so that a test sees what arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vldac.parsing import ParsedResponse


@dataclass(frozen=True)
class Decision:
    text: str
    parsed: ParsedResponse | None

    @property
    def action(self) -> str | None:
        return self.parsed.action if self.parsed else None


class Actor:
    def __init__(self, vlm: bytes, *, temperature: float = 0.0) -> None:
        self.vlm, self.temperature = vlm, temperature

    def at(self, temperature: float) -> Actor:
        return Actor(self.vlm, temperature=temperature)

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Decision]:
        return [self._decide(o["frames"], o["prompt"], seed) for o, seed in zip(observations, seeds, strict=True)]

    def _decide(self, frames: Any, prompt: str, seed: int) -> Decision:
        text = f"{'x'.join(map(str, frames.shape))} t={self.temperature} seed={seed}"
        if prompt == "nonsense":
            return Decision(text, None)
        return Decision(text, ParsedResponse(thoughts=prompt, action=f"pixel {int(frames[0, 0, 0, 0])}"))


def load_actor(policy: str, base: str) -> Actor:
    assert (Path(base) / "model.safetensors").exists()
    return Actor((Path(policy) / "adapter_model.safetensors").read_bytes())
