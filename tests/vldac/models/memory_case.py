"""One training step of a model of middle size, random but with Qwen's real vocabulary: its peak memory and gradient.

    python memory_case.py OUT plain|saving

Writes OUT: the adapter's gradient as safetensors, with the peak memory of the step in MiB as metadata.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText

from vldac.config import TinyConfig
from vldac.losses import step_mean
from vldac.models import tiny, token_scores, vlm
from vldac.models.vlm import VLM
from vldac.utils.libraries import quiet

SHAPE = TinyConfig(
    hidden_size=768, layers=6, heads=12, kv_heads=2, intermediate_size=2048, vision_depth=1, vision_width=128
)
ROWS, PROMPT, RESPONSE, BATCH = 152_064, 450, 100, 4


def build() -> VLM:
    """The model, random, on a tokenizer of a few hundred tokens; the other rows of its vocabulary are forbidden."""
    with tempfile.TemporaryDirectory() as directory:
        tiny.build(TinyConfig(hidden_size=64, layers=1, vocabulary=384), ["go there. user\n"] * 5, 0, Path(directory))
        small = VLM.from_pretrained(directory)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(tiny.model_config(SHAPE, rows=ROWS))
    model.config.image_token_id = small.backbone.config.image_token_id
    made = VLM(model, type(small.family)(model.config, small.tokenizer, small.image_processor)).eval()
    made.add_adapter(8, 16)
    with torch.no_grad():  # an adapter that is the identity has half of its gradient zero
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return made


def status_mib(name: str) -> float:
    """A line of /proc/self/status: VmRSS is the memory now, VmHWM its peak since that was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def main(out: str, kind: str) -> None:
    quiet()
    torch.set_num_threads(1)
    made = build()
    rng = np.random.default_rng(0)
    (prompt,) = made.encode([rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)], ["go there. " * 200])
    prompt = vlm.Prompt(prompt.input_ids[:PROMPT], prompt.pictures, prompt.features)
    assert len(prompt.input_ids) == PROMPT
    responses = [torch.from_numpy(rng.integers(5, 300, RESPONSE)) for _ in range(BATCH)]
    saving = kind == "saving"
    if not saving:
        token_scores.CHUNK = vlm.CHUNK = 2**40  # as it was before
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of building the model, which may be the higher one
    before = status_mib("VmRSS")
    context = made.recomputing() if saving else torch.enable_grad()
    with context:
        scores = made([prompt] * BATCH, responses, 0.7)
        step_mean(scores.log_probs, scores.mask).backward()
    peak = status_mib("VmHWM") - before
    gradient = {name: p.grad for name, p in made.named_parameters() if p.grad is not None}
    save_file(gradient, out, metadata={"peak_mib": str(peak)})


if __name__ == "__main__":
    main(*sys.argv[1:])
