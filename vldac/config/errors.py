"""What a wrong configuration is told: one line for each error, with the key, the reason and the nearest valid key."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel

#: Keys of earlier versions and what they are called now.
RENAMED = {
    "env.simulators": "env.num_envs",
    "env.workers": "env.num_workers",
    "evaluate.simulators": "evaluate.num_envs",
    "exams": "benchmarks",
    "benchmarks.agent": "benchmarks.balrog.agent",
    "benchmarks.environments": "benchmarks.balrog.environments",
    "benchmarks.parser": "benchmarks.vsi_bench.parser and benchmarks.visual_web_bench.parser",
}


def explain(error: Any, root: type[BaseModel]) -> str:
    """One line for one of pydantic's errors: the key, the reason, and for an unknown key the nearest one of `root`."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    if key in RENAMED:
        return f"{key} is {RENAMED[key]} now"
    if error["type"] == "extra_forbidden":
        nearest = _nearest(location, root)
        return f"unknown key {key!r}" + (f"; did you mean {nearest!r}?" if nearest else "")
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        return f"{key}: {message}" if key else message
    hint = ""
    if error["type"] == "float_type" and isinstance(error["input"], str):
        hint = " (YAML reads a number such as 5e-4 as text: write 5.0e-4)"
    message = error["msg"].replace("Input should", "should")
    return f"{key + ': ' if key else ''}{message}, but is {error['input']!r}{hint}"


def _nearest(location: Sequence[str], root: type[BaseModel]) -> str | None:
    *sections, name = location
    section = ".".join(part for part in sections if not part.isdecimal())  # entries of a list have their keys alike
    everything = [(*key.rpartition(".")[::2], key) for key in _keys(root)]
    moved = {leaf: key for _, leaf, key in reversed(everything)}  # the first section wins
    siblings = {leaf: key for parent, leaf, key in everything if parent == section}
    if name in moved and name not in siblings:  # a known name in the wrong section
        return moved[name]
    for candidates, cutoff in ((siblings, 0.5), (moved, 0.6)):
        if match := difflib.get_close_matches(name, candidates, n=1, cutoff=cutoff):
            return candidates[match[0]]
    return None


def _keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        for annotation in (field.annotation, *get_args(field.annotation)):
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                keys += _keys(annotation, f"{prefix}{name}.")
    return keys
