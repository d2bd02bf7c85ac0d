"""Templates and system messages as a part of a run's identity."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vldac.config import ConfigError, load, parse

TEMPLATE = 'See {frames}.\n{instruction} {actions}.\nAnswer {answer_format}, not {{"x": 1}}.'


def params(folder: Path, template: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({"env": {"id": "GymCards-NumberLine-v0", "prompt_template": template}}))
    return path


def test_a_run_is_identified_by_the_text_of_its_template_and_not_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text(TEMPLATE + "\n")
    one, two = (load(params(tmp_path, name)) for name in ("one.txt", "two.txt"))
    assert one.env.prompt_template == TEMPLATE
    assert one.env.make_options["prompt_template"] == TEMPLATE
    assert one.deciding()["env"]["prompt_template"] == TEMPLATE  # what an exported policy keeps
    assert one.fingerprint() == two.fingerprint()
    (tmp_path / "two.txt").write_text(TEMPLATE + " Now.")
    assert load(params(tmp_path, "two.txt")).fingerprint() != one.fingerprint()

    written = tmp_path / "config.yaml"
    written.write_text(yaml.safe_dump(one.model_dump(mode="json")))
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).unlink()
    assert load(written) == one  # a configuration that was written out needs no other file


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, r"env.prompt_template: it.txt: No such file or directory; name a text file"),
        (b"{actoins}", r"env.prompt_template: .* unknown placeholder \{actoins\}; did you mean \{actions\}\?"),
        (b"plain", r"env.prompt_template: the prompt template holds no placeholder"),
        (b"\xff{actions}", r"env.prompt_template: it.txt is not a text in UTF-8"),
        (b"{actions}" * 10_000, r"env.prompt_template: it.txt has more than 65536 bytes"),
    ],
)
def test_what_is_no_template_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | None, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if data is not None:
        (tmp_path / "it.txt").write_bytes(data)
    with pytest.raises(ConfigError, match=reason) as found:
        load(params(tmp_path, "it.txt"))
    assert "\n" not in str(found.value)


def test_a_system_message_decides_too() -> None:
    assert parse({"model": {"system_message": "be brief"}}).fingerprint() != parse({}).fingerprint()
