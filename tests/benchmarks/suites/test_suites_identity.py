"""Every option of a suite's own tells records apart."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.harness import registry

CHANGES: dict[str, dict[str, Any]] = {
    "balrog": {"agent": "cot", "environments": ("babyai",)},
    "visual_web_bench": {"parser": "lmms-eval"},
    "vsi_bench": {"parser": "lmms-eval"},
}


def test_every_suite_with_options_of_its_own_is_held_here() -> None:
    own = {name: set(entry.options.own()) for name, entry in registry.entries().items() if entry.options.own()}
    assert own == {name: set(changes) for name, changes in CHANGES.items()}


@pytest.mark.parametrize("name", CHANGES)
def test_an_option_of_its_own_is_in_the_identity_and_speed_is_not(name: str) -> None:
    start: dict[str, Any] = {"limit": 1, "max_new_tokens": 9}
    start |= {"environments": ("babyai", "crafter")} if name == "balrog" else {}
    options = registry.get(name).options
    reference = registry.make(name, options(**start)).identity()
    for option, value in CHANGES[name].items():
        assert registry.make(name, options(**start | {option: value})).identity() != reference, option
    for speed in options.speed:
        assert registry.make(name, options(**start | {speed: 7})).identity() == reference
