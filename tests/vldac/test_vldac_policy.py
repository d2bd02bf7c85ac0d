from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vldac import parsing, policy, train
from vldac.acting import load_actor
from vldac.config import ConfigError, ModelConfig
from vldac.evaluation import model
from vldac.models.files import WeightsError
from vldac.models.vlm import VLM
from vldac.utils.errors import report_errors
from vldac.value_head import ValueHead

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
        head.fit_standardization(torch.arange(float(vlm.hidden_size)), torch.ones(vlm.hidden_size))
        directory = tmp_path_factory.mktemp("policies") / kind
        policy.save(directory, vlm, head.state_dict(), description(config, adapter=rank > 0))
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


@pytest.mark.parametrize("kind", ["adapter", "weights", "base"])
def test_colleagues_may_read_weights_as_they_may_read_any_other_file(
    saved: Any, tiny_base: Path, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "any").touch()
    directory = tiny_base if kind == "base" else saved[kind][0]
    assert {path.stat().st_mode for path in directory.iterdir()} == {(tmp_path / "any").stat().st_mode}


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


def test_a_pointer_to_files_that_have_changed_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    own, pointer = tmp_path / "own", tmp_path / "base"
    shutil.copytree(tiny_base, own)
    policy.write_pointer(pointer, str(own), None)
    weights = load_file(own / "model.safetensors")
    save_file({name: 0.5 * tensor for name, tensor in weights.items()}, own / "model.safetensors", {"format": "pt"})
    for load in (lambda: policy.load_base(pointer, ModelConfig()), lambda: model.load(pointer, None)):
        with pytest.raises(WeightsError, match=r"own has changed since .*base was made of it .*; bring its files back"):
            load()
    policy.write_pointer(pointer, str(own), None)
    policy.load_base(pointer, ModelConfig())
    shutil.rmtree(own)
    with pytest.raises(FileNotFoundError, match=r"base stands for the directory .*own, which is not on this machine"):
        policy.load_base(pointer, ModelConfig())


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
    before, stamp = policy.digest(tmp_path / "base"), policy.stamp(tmp_path / "base")
    assert policy.stamp(tmp_path / "base") == stamp
    (tmp_path / "model/config.json").write_text("[ ]")
    assert policy.digest(tmp_path / "base") != before
    assert policy.stamp(tmp_path / "base") != stamp


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
    actor = load_actor(saved[kind][0], tiny_base)
    (decision,) = actor.act([{"frames": frame(), "prompt": PROMPT}])
    assert decision.parsed == parsing.parse_response(decision.text)
    (again,) = actor.act([{"frames": frame(), "prompt": PROMPT}])  # at temperature 0 it does not waver
    assert again.text == decision.text


def test_an_actor_samples_by_seeds(saved: Any, tiny_base: Path) -> None:
    def texts(seed: int) -> list[str]:
        actor = load_actor(saved["adapter"][0], tiny_base).at(2.0)
        return [d.text for d in actor.act([{"frames": frame(), "prompt": PROMPT}] * 4, range(seed, seed + 4))]

    assert texts(1) == texts(1)
    assert texts(1)[1:] == texts(2)[:3]
    assert len(set(texts(1))) > 1


def changed_base(base: Path, directory: Path, **config: Any) -> Path:
    """A copy of a base with other values in its config.json."""
    shutil.copytree(base, directory)
    described = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(described | config))
    return directory


def without(path: Path, part: str) -> None:
    """Takes the weights with `part` in their names out of a file."""
    weights = {name: tensor for name, tensor in load_file(path).items() if part not in name}
    save_file(weights, path, {"format": "pt"})


def test_weights_that_are_missing_are_named_and_not_made_up(tiny_base: Path, tmp_path: Path) -> None:
    untied = changed_base(tiny_base, tmp_path / "untied", tie_word_embeddings=False)
    text = json.loads((untied / "config.json").read_text())["text_config"] | {"tie_word_embeddings": False}
    changed_base(untied, tmp_path / "untied-too", text_config=text)
    with pytest.raises(WeightsError, match=r"^the weights of \S+ do not fit its config.json \(missing: lm_head.w"):
        policy.load_base(tmp_path / "untied-too", ModelConfig())
    shutil.copytree(tiny_base, tmp_path / "cut")
    without(tmp_path / "cut" / "model.safetensors", "layers.0.mlp")
    with pytest.raises(WeightsError, match=r"missing: model\.\S+mlp.down_proj.weight, \S+, \S+\);"):
        policy.load_base(tmp_path / "cut", ModelConfig())
    deeper = changed_base(tiny_base, tmp_path / "deeper")
    weights = load_file(deeper / "model.safetensors")
    extra = {name.replace("layers.0", "layers.1"): tensor.clone() for name, tensor in weights.items()}
    save_file(weights | extra, deeper / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="unexpected: "):
        policy.load_base(deeper, ModelConfig())


def test_an_adapter_goes_onto_no_other_base(saved: Any, tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(saved["adapter"][0], tmp_path / "policy")
    description = policy.describe(tmp_path / "policy") | {"base": policy.identity(tiny_base)}
    (tmp_path / "policy" / "vldac.json").write_text(json.dumps(description))
    shutil.copytree(tiny_base, tmp_path / "same")
    policy.load(tmp_path / "policy", tmp_path / "same", ModelConfig())
    shutil.copytree(tiny_base, tmp_path / "other")
    weights = {name: 0.5 * tensor for name, tensor in load_file(tiny_base / "model.safetensors").items()}
    save_file(weights, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"policy was trained on another base than \S+other \(digest"):
        policy.load(tmp_path / "policy", tmp_path / "other", ModelConfig())
    with pytest.raises(WeightsError, match=r"another base than \S+other \(digest"):
        model.load(tmp_path / "other", tmp_path / "policy")


def test_an_adapter_whose_weights_lead_nowhere_is_refused(saved: Any, tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(saved["adapter"][0], tmp_path / "policy")
    path = tmp_path / "policy" / "adapter_model.safetensors"
    renamed = {name.replace("layers.0", "layers.7"): tensor for name, tensor in load_file(path).items()}
    save_file(renamed, path)
    with pytest.raises(WeightsError, match=r"does not fit this base: \d+ of its weights lead nowhere and \d+ are"):
        policy.load(tmp_path / "policy", tiny_base, ModelConfig())
    path.rename(path.with_name("adapter_model.bin"))
    with pytest.raises(WeightsError, match=r"has no adapter_model.safetensors; other formats are not loaded"):
        policy.load(tmp_path / "policy", tiny_base, ModelConfig())


def test_a_base_is_told_apart_by_the_files_that_are_loaded(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    first = policy.digest(tmp_path / "base")
    (tmp_path / "base" / ".cache" / "huggingface").mkdir(parents=True)
    for name in (".cache/huggingface/model.safetensors.metadata", "README.md", ".gitattributes"):
        (tmp_path / "base" / name).write_text("what a download leaves")
    assert policy.digest(tmp_path / "base") == first
    (tmp_path / "base" / "generation_config.json").write_text("{}")
    assert policy.digest(tmp_path / "base") != first


def test_the_base_on_disk_must_be_the_model_that_is_asked_for(
    tiny_base: Path, tiny_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    shutil.copytree(tiny_base, tmp_path / "models" / "base")
    monkeypatch.chdir(tmp_path)
    tiny, large = tiny_config().model, ModelConfig(base="Qwen/Qwen2-VL-7B-Instruct")
    assert policy.choose_base(None, tiny, tmp_path / "run") == Path("models/base")
    assert policy.choose_base(None, large, tmp_path / "run") == tmp_path / "run" / "base"
    assert policy.resolve(tmp_path / "run" / "base") == ("Qwen/Qwen2-VL-7B-Instruct", None)
    with pytest.raises(ConfigError, match=r"models/base holds models/base, but model.base is Qwen/Qwen2-VL-7B"):
        policy.choose_base(Path("models/base"), large, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"another model than model.tiny describes \(it differs in text_config"):
        policy.choose_base(Path("models/base"), ModelConfig(), tmp_path / "run")
    policy.write_pointer(tmp_path / "pointer", large.base, "v1")
    with pytest.raises(ConfigError, match="holds Qwen/Qwen2-VL-7B-Instruct at revision v1, but model"):
        policy.choose_base(tmp_path / "pointer", large, tmp_path / "run")
    same = ModelConfig(base=str(tiny_base))
    assert policy.choose_base(Path("models/base"), same, tmp_path / "run") == Path("models/base")  # a copy of it


def test_a_dry_run_refuses_what_a_run_would_fail_at(tiny_params_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    params = ["--dry-run", "--params", str(tiny_params_file())]

    def fails(override: str) -> str:
        assert report_errors(lambda: train.main([*params, "--set", override])) == 1
        return capsys.readouterr().err

    assert "unknown environment 'MiniWorld-OneRom-v0'; did you mean MiniWorld-OneRoom-v0" in fails(
        "env.id=MiniWorld-OneRom-v0"
    )
    assert "did you mean the preset model=qwen2-vl-7b?" in fails("model.base=qwen2-vl-7b")
    assert "algorithm 'nowhere:Class' needs the module 'nowhere'" in fails("train.algorithm=nowhere:Class")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '"text"', "{", "[" * 100_000, '{"adapter": true, "config": []}', "\xff"]
)
def test_a_damaged_description_and_a_damaged_pointer_are_one_line(text: str, tmp_path: Path, tiny_base: Path) -> None:
    for name in ("vldac.json", "base.json"):
        (tmp_path / name).write_text(text, encoding="latin-1")
    for load in (
        lambda: policy.describe(tmp_path),
        lambda: load_actor(tmp_path, tiny_base),
        lambda: model.load(tiny_base, tmp_path),
        lambda: policy.load_base(tmp_path, ModelConfig()),
        lambda: policy.identity(tmp_path),
    ):
        with pytest.raises(WeightsError, match=r"(vldac|base)\.json is damaged") as error:
            load()
        assert "\n" not in str(error.value)


def test_a_description_of_another_version_is_one_line(tmp_path: Path, tiny_base: Path) -> None:
    (tmp_path / "vldac.json").write_text('{"adapter": true, "config": {"model": {"base": 3}}}')
    for load in (lambda: load_actor(tmp_path, tiny_base), lambda: model.load(tiny_base, tmp_path)):
        with pytest.raises(WeightsError, match=r"vldac\.json is damaged, or of another version of vldac \(") as error:
            load()
        assert "\n" not in str(error.value)
