"""TRL's GRPO on NumberLine, through OpenEnv and with nothing of this project in the trainer's process.

    vldac envs serve GymCards-NumberLine-v0 --port 8000
    python docs/trl_openenv.py --model google/gemma-3-4b-it --address http://127.0.0.1:8000 --steps 50

A prompt is the start of an episode. A completion names a move, which is made until the episode ends; its reward is what
the environment has paid.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from openenv.core import GenericEnvClient
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer


def starts(address: str, seeds: Sequence[int]) -> Dataset:
    """A row for the start of each episode: what is asked, with the pictures that are shown, and its seed."""
    rows = []
    with GenericEnvClient(base_url=address).sync() as env:
        for seed in seeds:
            shown = env.reset(seed=seed).observation
            pictures = [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in shown["images"]]
            content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": shown["prompt"]}]
            rows.append({"prompt": [{"role": "user", "content": content}], "images": pictures, "seed": seed})
    return Dataset.from_list(rows)


def action_of(text: str) -> str | None:
    """The action that an answer names; None where it names none."""
    for found in reversed(re.findall(r"\{[^{}]*\}", text)):
        try:
            named = json.loads(found).get("action")
        except ValueError:
            continue
        if isinstance(named, str):
            return named
    return None


def train(model: Any, processor: Any, address: str, *, episodes: int, steps: int, out: Path, **options: Any) -> Any:
    """Trains a model and returns TRL's trainer.

    Args:
        model: a vision-language model of Hugging Face.
        processor: of the model.
        address: of the OpenEnv server.
        episodes: different starts.
        steps: optimizer steps.
        out: directory for what TRL writes.
        **options: of `trl.GRPOConfig`, besides.
    """

    def reward(completions: Sequence[Any], seed: Sequence[int], **_: Any) -> list[float]:
        rewards = []
        with GenericEnvClient(base_url=address).sync() as env:
            for (message,), start in zip(completions, seed, strict=True):
                content = message["content"]
                text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
                action, total = action_of(text), 0.0
                result = env.reset(seed=start)
                while not result.done:
                    result = env.step({"action": action})
                    total += result.reward
                rewards.append(total)
        return rewards

    config = GRPOConfig(output_dir=str(out), max_steps=steps, save_strategy="no", report_to=[], **options)
    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=reward,
        args=config,
        train_dataset=starts(address, range(episodes)),
    )
    trainer.train()
    return trainer


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="a vision-language model: hub id or directory")
    parser.add_argument("--address", default="http://127.0.0.1:8000", help="of the server (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=256, help="different starts (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("trl"), help="directory (default: %(default)s)")
    options = parser.parse_args()
    model, processor = (kind.from_pretrained(options.model) for kind in (AutoModelForImageTextToText, AutoProcessor))
    train(model, processor, options.address, episodes=options.episodes, steps=options.steps, out=options.out)


if __name__ == "__main__":
    main()
