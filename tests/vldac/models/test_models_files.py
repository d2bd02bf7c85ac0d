"""Damaged, incomplete and mistaken model directories: one line each, before anything is loaded or started."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from vldac import policy, train
from vldac.evaluation import episodes
from vldac.models.files import WeightsError, explain_no_model, require_model
from vldac.models.vlm import VLM
from vldac.utils.errors import report_errors

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"


@pytest.fixture
def model(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the small model, to be damaged."""
    return Path(shutil.copytree(tiny_base, tmp_path / "model"))


def edit(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        value = json.loads((model / name).read_text())
        change(value)
        (model / name).write_text(json.dumps(value))

    return damage


def shard(names: Any) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))

    return damage


def cut(model: Path) -> None:
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:5000])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda model: (model / "model.safetensors").write_text(POINTER), r"model\.safetensors stands .*git lfs pull"),
        (lambda model: (model / "tokenizer.json").write_text(POINTER), r"tokenizer\.json stands for .* `git lfs pull`"),
        (cut, r"model\.safetensors is damaged or cut short"),
        (shard({"a": "model-1.safetensors", "b": "model.safetensors"}), r"lacks model-1\.safetensors; download the"),
        (shard(None), r"index\.json names no files"),
        (edit("config.json", lambda value: value["text_config"].update(vocab_size=9)), r"384 rows .* vocab_size .* 9;"),
        (lambda model: (model / "config.json").write_text("[]"), r"config\.json is no JSON object"),
        (lambda model: (model / "config.json").write_text(""), r"config\.json is no JSON object"),
        (lambda model: (model / "config.json").write_text("[" * 100_000), r"config\.json is no JSON object"),
    ],
)
def test_a_damaged_directory_is_refused_before_it_is_loaded(
    model: Path, damage: Callable[[Path], Any], said: str, tiny_config: Any
) -> None:
    require_model(model)
    damage(model)
    with pytest.raises(WeightsError, match=said) as error:
        require_model(model)
    assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match=said):
        policy.require_name(str(model))
    with pytest.raises(WeightsError, match=said):
        VLM.from_pretrained(model)


def test_shapes_and_tokenizers_of_another_model_are_named(model: Path) -> None:
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    kept = json.dumps(tokenizer)
    for number in range(400):
        tokenizer["model"]["vocab"][f"more{number}"] = len(tokenizer["model"]["vocab"]) + 100
    tokenizer["added_tokens"] += [
        {**tokenizer["added_tokens"][0], "id": 1000 + number, "content": f"<more{number}>"} for number in range(400)
    ]
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(WeightsError, match=r"the tokenizer of .* has \d+ tokens, and the model 384 rows for them"):
        VLM.from_pretrained(model)
    (model / "tokenizer.json").write_text(kept)
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if name.endswith("mlp.up_proj.weight"))
    save_file({**weights, name: weights[name][:1].clone()}, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"do not fit its config\.json \(of another shape: .*up_proj\.weight"):
        VLM.from_pretrained(model)


def test_nothing_is_played_before_the_files_are_looked_at(
    model: Path, tiny_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_params_file: Any, capsys: Any
) -> None:
    monkeypatch.setattr(episodes, "evaluate", lambda *_: pytest.fail("it was played"))
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/vldac.json").write_text('{"adapter": true}')
    (model / "model.safetensors").write_text(POINTER)
    with pytest.raises(WeightsError, match="git lfs pull"):
        episodes.run(tiny_config(), model, tmp_path / "policy", tmp_path, None)
    for wrong in (["--set", f"model.base={model}"], ["--base", str(model)]):
        assert report_errors(lambda: train.main(["--dry-run", "--params", str(tiny_params_file()), *wrong])) == 1  # noqa: B023  # called at once
        assert "git lfs pull" in capsys.readouterr().err


def test_what_is_no_model_is_told_apart_and_never_to_be_written_over(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adapter, cache = tmp_path / "adapter", tmp_path / "hub"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    parent = cache / "models--Qwen--Qwen2-VL-7B-Instruct"
    snapshot = parent / "snapshots/0123"
    shutil.copytree(tiny_base, snapshot)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("")
    for directory, said in (
        (adapter, "holds an adapter, and no model; name the model that it was trained on, or merge"),
        (parent, f"the hub's cache of a model; name {snapshot}, or its hub id Qwen/Qwen2-VL-7B-Instruct"),
        (cache, "is the hub's cache, and no model; name a hub id, such as Qwen/Qwen2-VL-7B-Instruct"),
        (tmp_path / "other", "holds no model: config.json is missing; name the directory that has it"),
    ):
        with pytest.raises(FileNotFoundError) as error:
            policy.resolve(directory)
        assert said in str(error.value)
        assert "warm-start" not in str(error.value)
    hub_id = "Qwen/Qwen2-VL-7B-Instruct"
    assert explain_no_model(Path(hub_id)).endswith(f"a model of the hub is named by --set model.base={hub_id}")
    assert explain_no_model(Path("models/base")).endswith("make it with: vldac warm-start --out models/base")
    require_model(snapshot)
