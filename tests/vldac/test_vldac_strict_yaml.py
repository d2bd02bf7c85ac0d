"""A params file is data: what repeats itself, grows or nests without end is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vldac.config import ConfigError, load, presets, strict_yaml
from vldac.config.strict_yaml import YAMLTextError, parse

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
REFUSED = [
    ("seed: 1\nenv: {}\nseed: 2\n", "line 3: the key 'seed' is there twice; keep one"),
    ("train:\n  gamma: 0.9\n  gamma: 0.8\n", "line 3: the key 'gamma' is there twice"),
    ("{seed: 1, seed: 1}", "line 1: the key 'seed' is there twice"),
    ("a: " + "[" * 3000, "line 1: more than 32 levels are in each other"),
    ("a: " + "[" * 3000 + "]" * 3000, "more than 32 levels"),
    ("a: " + "{b: " * 3000 + "1" + "}" * 3000, "more than 32 levels"),
    (BOMB, "line 2: the alias *a0 is not taken; write its value out"),
    ("a: &a [*a]", "the alias *a is not taken"),
    ("base: &b {a: 1}\nmore:\n  <<: *b\n", "the alias *b is not taken"),
    ("a: 2026-13-45", "it is not valid YAML: month must be"),
    ("a: " + "9" * 5000, "it is not valid YAML: Exceeds the limit"),
    (
        "a: !!python/object/apply:os.system [true]",
        "line 1: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not taken",
    ),
    ("? [1]\n: 2\n", "unhashable"),
    ("a: [", "it is not valid YAML: line 1"),
    ("a: " + "x" * strict_yaml.MAX_BYTES, "it has more than 1048576 bytes"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_a_file_must_not_hold_is_one_line_wherever_it_is_read(text: str, said: str, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(text)
    (tmp_path / "env").mkdir()
    (tmp_path / "env/own.yaml").write_text(text)
    for refused, read in (
        (YAMLTextError, lambda: strict_yaml.read(params)),
        (ConfigError, lambda: load(params)),
        (presets.PresetError, lambda: presets.resolve({"env": "own"}, frozenset({"env"}), tmp_path)),
    ):
        with pytest.raises(refused) as error:
            read()
        assert said in str(error.value)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "value",
    ['!!int ""', '!!float ""', "!!bool x", "!!timestamp x", "!!map [1]", "!own 1", "! 1", '!!python/name:os.system ""'],
)
def test_a_tag_is_refused_whatever_it_says(value: str) -> None:
    with pytest.raises(YAMLTextError, match=r"line 1: the tag .* is not taken; write the value alone"):
        parse(f"a: {value}")


@pytest.mark.parametrize("value", ["[" * 3000, "{a: 1, a: 2}", "&a [*a]"])
def test_an_override_is_read_as_strictly(value: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1")
    with pytest.raises(ConfigError, match=r"override env\.options=") as error:
        load(tmp_path / "params.yaml", [f"env.options={value}"])
    assert len(str(error.value)) < 400


def test_what_params_files_are_made_of_is_read_as_before() -> None:
    text = "a: {b: [1, 2.5, null, true]}\nc: &name text\nd:\n  - e: 1\n    f: 2\n  - e: 1\n"
    assert parse(text) == {"a": {"b": [1, 2.5, None, True]}, "c": "text", "d": [{"e": 1, "f": 2}, {"e": 1}]}
    assert parse("") is None
