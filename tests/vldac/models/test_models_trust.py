"""Nothing that comes with a model is executed, or offered for execution."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vldac.config import ModelConfig
from vldac.models.files import WeightsError
from vldac.policy import load_base

KEYS = {
    "preprocessor_config.json": "AutoImageProcessor",
    "tokenizer_config.json": "AutoTokenizer",
    "config.json": "AutoConfig",
}


@pytest.mark.parametrize("name", sorted(KEYS))
@pytest.mark.parametrize("known", [True, False])
def test_code_beside_a_model_is_never_run(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, known: bool
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a person was asked to run the code of a model"))
    base, ran = tmp_path / "base", tmp_path / "ran"
    shutil.copytree(tiny_base, base)
    (base / "code.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Theirs:\n    pass\n")
    values = json.loads((base / name).read_text())
    values["auto_map"] = {KEYS[name]: ["code.Theirs", None] if KEYS[name] == "AutoTokenizer" else "code.Theirs"}
    if not known:
        values = {key: value for key, value in values.items() if key not in ("image_processor_type", "tokenizer_class")}
    (base / name).write_text(json.dumps(values))
    load_base(base, ModelConfig())
    assert not ran.exists()


def test_a_processor_that_only_its_own_code_could_load_is_one_line(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    values = {"auto_map": {"AutoImageProcessor": "code.Theirs"}, "image_processor_type": "Theirs"}
    (tmp_path / "base" / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(WeightsError, match="cannot be loaded without running code that comes with it"):
        load_base(tmp_path / "base", ModelConfig())
