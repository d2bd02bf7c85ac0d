"""TRL's GRPO in a world of this project, through OpenEnv: docs/trl_openenv.py, on a model of random weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import family_cases
import pytest
import torch

from envs.base import Env
from envs.registry import make
from tests.openenv_server import served

pytest.importorskip("openenv.core", reason="the extra openenv is not installed")

MAKE: dict[str, Any] = {"width": 32, "height": 32, "prompt": "terse"}
NUMBER_LINE = "GymCards-NumberLine-v0"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = Path(__file__).parents[3] / "docs/trl_openenv.py"
    spec = importlib.util.spec_from_file_location("trl_openenv", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(NUMBER_LINE, {**MAKE, "frames": 1}, sessions=2) as address:
        yield f"http://{address}"


def paid(seed: int, action: str) -> float:
    """What the environment pays, played here, for an action that is taken until the episode ends."""
    env, total, ended = make(NUMBER_LINE, **MAKE), 0.0, False
    env.reset(seed=seed)
    while not ended:
        _, reward, terminated, truncated, _ = env.step(cast(Env, env.unwrapped).parse_action(action))
        total, ended = total + float(reward), terminated or truncated
    return total


@pytest.mark.slow
def test_grpo_of_trl_learns_from_what_our_world_pays(
    example: ModuleType, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForImageTextToText, AutoTokenizer  # noqa: PLC0415
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil  # noqa: PLC0415
    from transformers.models.gemma3.processing_gemma3 import Gemma3Processor  # noqa: PLC0415

    family_cases.build(tmp_path / "model", "gemma3")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    pictures = Gemma3ImageProcessorPil.from_pretrained(tmp_path / "model")
    processor = Gemma3Processor(
        image_processor=pictures, tokenizer=tokenizer, chat_template=tokenizer.chat_template, image_seq_length=4
    )
    # Random weights write no JSON: whatever they write is taken for one move or the other.
    monkeypatch.setattr(example, "action_of", lambda text: "+-"[len(text) % 2])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    options = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 12}
    trainer = example.train(
        model,
        processor,
        address,
        episodes=4,
        steps=4,
        out=tmp_path / "out",
        **{**options, "use_cpu": True, "bf16": False, "learning_rate": 1e-3, "logging_steps": 1},
    )
    rows = [row for row in trainer.state.log_history if "reward" in row]
    assert len(rows) == 4
    possible = sorted({paid(seed, action) for seed in range(4) for action in "+-"})
    assert len(possible) > 1
    assert all(possible[0] <= row["reward"] <= possible[-1] for row in rows)
    assert max(row["reward_std"] for row in rows) > 0
    assert max(row["grad_norm"] for row in rows) > 0
    vision = [name for name, parameter in model.named_parameters() if "vision" in name and parameter.requires_grad]
    assert any(not torch.equal(before[name], model.get_parameter(name)) for name in vision)  # it was shown pictures


def test_an_action_is_read_from_what_a_model_writes(example: ModuleType) -> None:
    assert example.action_of('I think. {"thoughts": "x", "action": "+"}') == "+"
    assert example.action_of('{"action": "-"} {"action": 3}') == "-"
    assert example.action_of("{") is None
