from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from smolvlm_cases import build
from transformers import AutoConfig, AutoModelForImageTextToText, SmolVLMConfig, SmolVLMForConditionalGeneration

import vldac.models
from vldac.engines.transformers import TransformersEngine
from vldac.models import VLM, ModelAdapter, Picture, UnsupportedFamilyError, adapter_for, register, registry
from vldac.models.idefics3 import Idefics3Adapter

REPOSITORY = Path(__file__).parents[3]


class FramedConfig(SmolVLMConfig):
    model_type = "framed_vl"


class FramedModel(SmolVLMForConditionalGeneration):
    config_class = FramedConfig


class FramedAdapter(Idefics3Adapter):
    """A family from outside of the package, which writes a frame around each picture."""

    def encode_pictures(self, images: Sequence[Any]) -> list[Picture]:
        return [Picture(f"[{p.placeholder}]", p.tensors) for p in super().encode_pictures(images)]


@pytest.fixture
def _framed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.FAMILIES, "_own", dict(registry.FAMILIES._own))
    monkeypatch.setitem(sys.modules, "framed_family", sys.modules[__name__])
    AutoConfig.register("framed_vl", FramedConfig, exist_ok=True)
    AutoModelForImageTextToText.register(FramedConfig, FramedModel, exist_ok=True)
    register("framed_vl", "framed_family:FramedAdapter")


def test_a_family_is_looked_up_by_its_model_type() -> None:
    assert adapter_for("smolvlm") is adapter_for("idefics3") is Idefics3Adapter
    assert issubclass(adapter_for("qwen2_vl"), ModelAdapter)
    with pytest.raises(UnsupportedFamilyError, match="'framed_vl' is not supported; the families are gemma3, idefics3"):
        adapter_for("framed_vl")


@pytest.mark.usefixtures("_framed")
def test_a_family_from_outside_is_used_like_one_of_the_package(tmp_path: Path) -> None:
    build(tmp_path, ["go there. [User: Assistant:]"] * 5, "framed_vl")
    vlm = VLM.from_pretrained(tmp_path)
    assert type(vlm.family) is FramedAdapter
    assert type(vlm.backbone) is FramedModel
    window = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    prompts = vlm.encode([window, window[:1]], ["go there.", "go"])
    assert vlm.tokenizer.decode(prompts[1].input_ids).count("[<fake_token_around_image>") == 1
    vlm.add_adapter(4, 8)
    prompts = vlm.encode_frames(prompts)
    responses = TransformersEngine(vlm).generate(prompts, max_new_tokens=4, temperature=1.0, seeds=range(len(prompts)))
    with torch.no_grad():
        scores = vlm(prompts, [r.token_ids for r in responses], 1.0)
    for row, response in zip(scores.log_probs, responses, strict=True):
        assert torch.allclose(row[: len(response.log_probs)], response.log_probs, atol=1e-4)


@pytest.mark.usefixtures("_framed")
def test_an_adapter_is_named_in_place_of_one_of_the_package() -> None:
    assert adapter_for("smolvlm", "framed_family:FramedAdapter") is FramedAdapter
    assert adapter_for("smolvlm") is Idefics3Adapter
    with pytest.raises(ValueError, match="family 'smolvlm' is vldac"):
        register("smolvlm", "framed_family:FramedAdapter")


def test_the_package_offers_its_names() -> None:
    assert all(getattr(vldac.models, name) for name in vldac.models.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        vldac.models.Nothing  # noqa: B018  # the access is what is tested


def test_a_conversation_is_read_without_a_model_library() -> None:
    code = (
        "import sys\n"
        "import vldac.models, vldac.models.conversation\n"
        "loaded = {'torch', 'transformers', 'peft', 'tokenizers'} & sys.modules.keys()\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["vldac", "benchmarks", "pipelines"])
def test_the_project_imports_from_the_modules_themselves(package: str) -> None:
    """What `pipelines.sources` follows: it passes over the `__init__.py` of packages."""
    modules = {path.stem for path in (REPOSITORY / "vldac/models").glob("*.py")}
    for path in (REPOSITORY / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "vldac.models":
                assert {alias.name for alias in node.names} <= modules, path
