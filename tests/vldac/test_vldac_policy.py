from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vldac import parsing, policy
from vldac.config import ModelConfig
from vldac.policy import Actor
from vldac.value_head import ValueHead
from vldac.vlm import VLM

PROMPT = "number line. move current to target. actions: -, +."


def frame(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)


def log_probs(vlm: VLM) -> torch.Tensor:
    prompts = vlm.encode([frame(), frame(1)], [PROMPT, "go."])
    with torch.no_grad():
        return vlm(prompts, [vlm.encode_response("left"), vlm.encode_response("")], 0.7).log_probs


def perturb(vlm: VLM) -> None:
    with torch.no_grad():
        for parameter in vlm.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)


def description(config: Any, *, adapter: bool) -> dict[str, Any]:
    return {"adapter": adapter, "environment_steps": 64, "config": config.model_dump(mode="json")}


@pytest.fixture(scope="session")
def saved(tiny_base: Path, tiny_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Policy directories with an adapter and with whole weights, and what each policy answers."""
    result = {}
    for kind, rank in (("adapter", 4), ("weights", 0)):
        config = tiny_config({"model": {"lora_rank": rank}})
        vlm = policy.load_base(tiny_base, config.model)
        if rank:
            vlm.add_adapter(rank, config.model.lora_alpha)
        perturb(vlm)
        head = ValueHead(vlm.hidden_size, (16,))
        head.fit_standardisation(torch.arange(float(vlm.hidden_size)), torch.ones(vlm.hidden_size))
        directory = tmp_path_factory.mktemp("policies") / kind
        policy.save(directory, vlm, head, description(config, adapter=rank > 0))
        result[kind] = (directory, log_probs(vlm), head, config.model)
    return result


@pytest.mark.parametrize("kind", ["adapter", "weights"])
def test_a_saved_policy_loads_back_to_the_same_log_probs(saved: Any, tiny_base: Path, kind: str) -> None:
    directory, expected, head, model = saved[kind]
    assert torch.equal(log_probs(policy.load(directory, tiny_base, model)), expected)
    assert not torch.allclose(log_probs(policy.load_base(tiny_base, model)), expected, atol=1e-3)
    stored = load_file(directory / "value_head.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in head.state_dict().items())


@pytest.mark.parametrize("kind", ["adapter", "weights"])
def test_weights_are_safetensors_only(saved: Any, kind: str) -> None:
    files = {path.name for path in saved[kind][0].iterdir()}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert ("adapter_model.safetensors" if kind == "adapter" else "model.safetensors") in files
    assert "README.md" not in files


def test_whole_weights_need_no_base(saved: Any, tmp_path: Path) -> None:
    directory, expected, _, model = saved["weights"]
    assert torch.equal(log_probs(policy.load(directory, tmp_path / "nowhere", model)), expected)


def test_a_policy_with_its_adapter_disabled_is_the_base(saved: Any, tiny_base: Path) -> None:
    directory, _, _, model = saved["adapter"]
    vlm = policy.load(directory, tiny_base, model)
    with vlm.adapter_disabled():
        inside = log_probs(vlm)
    assert torch.equal(inside, log_probs(policy.load_base(tiny_base, model)))


def test_a_pointer_stands_for_the_model_that_it_names(tiny_base: Path, tmp_path: Path) -> None:
    policy.write_pointer(tmp_path / "base", str(tiny_base), None)
    model = ModelConfig()
    pointed = policy.load_base(tmp_path / "base", model)
    assert torch.equal(log_probs(pointed), log_probs(policy.load_base(tiny_base, model)))


def test_one_byte_anywhere_makes_another_model(tmp_path: Path) -> None:
    weights = tmp_path / "base/model.safetensors"
    weights.parent.mkdir()
    with weights.open("wb") as file:
        file.truncate(2**26 + 1)  # zeros that take no room on the disk
    before = policy.digest(tmp_path / "base")
    with weights.open("r+b") as file:
        file.seek(2**26)
        file.write(b"x")
    assert policy.digest(tmp_path / "base") != before


def test_a_pointer_has_the_digest_of_the_directory_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    policy.write_pointer(tmp_path / "base", str(tmp_path / "model"), None)
    assert policy.digest(tmp_path / "base") == policy.digest(tmp_path / "model")
    before = policy.digest(tmp_path / "base")
    (tmp_path / "model/config.json").write_text("[]")
    assert policy.digest(tmp_path / "base") != before


def test_a_pointer_to_a_hub_has_the_digest_of_the_id_and_the_revision(tmp_path: Path) -> None:
    found = set()
    for base, revision in (("org/a", None), ("org/b", None), ("org/a", "v2")):
        policy.write_pointer(tmp_path, base, revision)
        found.add(policy.digest(tmp_path))
    assert len(found) == 3


def test_a_loaded_model_is_in_evaluation_mode(saved: Any, tiny_base: Path) -> None:
    directory, _, _, model = saved["adapter"]
    assert not any(module.training for module in policy.load(directory, tiny_base, model).modules())


def test_missing_directories_are_named_with_what_makes_them(saved: Any, tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no model; make it with: vldac warm-start"):
        policy.load_base(tmp_path / "nowhere", ModelConfig())
    with pytest.raises(FileNotFoundError, match=r"adapter is a trained policy, no base; .*--policy \S+adapter$"):
        policy.load_base(saved["adapter"][0], ModelConfig())
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no trained policy: vldac\.json is missing"):
        policy.load(tmp_path / "nowhere", tiny_base, ModelConfig())
    with pytest.raises(FileNotFoundError, match="nowhere holds no model"):
        policy.load(saved["adapter"][0], tmp_path / "nowhere", ModelConfig())


def test_a_description_says_what_the_policy_is(saved: Any) -> None:
    directory = saved["adapter"][0]
    assert policy.describe(directory) == json.loads((directory / "vldac.json").read_text())
    assert policy.describe(directory)["environment_steps"] == 64


@pytest.mark.parametrize("kind", ["adapter", "weights"])
def test_an_actor_answers_one_observation(saved: Any, tiny_base: Path, kind: str) -> None:
    actor = Actor.from_pretrained(saved[kind][0], tiny_base, max_new_tokens=24)
    decision = actor.act(frame(), PROMPT)
    assert decision.answer == parsing.parse_response(decision.text)
    assert decision == actor.act(frame(), PROMPT)  # at temperature 0 it does not waver


def test_an_actor_samples_by_its_own_seed(saved: Any, tiny_base: Path) -> None:
    def texts(seed: int) -> list[str]:
        actor = Actor.from_pretrained(saved["adapter"][0], tiny_base, temperature=2.0, max_new_tokens=8, seed=seed)
        return [actor.act(frame(), PROMPT).text for _ in range(4)]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)
    assert len(set(texts(1))) > 1
