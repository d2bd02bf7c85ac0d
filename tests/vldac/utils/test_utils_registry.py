from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest

from vldac.utils.registry import Registry, UnknownNameError


@pytest.fixture
def registry() -> Registry:
    return Registry("shape", {"square": "math:sqrt"}, group="vldac.shapes")


def test_a_name_is_imported_when_it_is_used(registry: Registry) -> None:
    registry.register("broken", "nowhere_to_be_found:Class")
    assert registry.names() == ("broken", "square")
    assert registry.load("square")(4) == 2
    with pytest.raises(UnknownNameError, match="shape 'broken' needs the module 'nowhere_to_be_found', which cannot"):
        registry.load("broken")


def test_a_name_of_ones_own_needs_no_registration(registry: Registry) -> None:
    assert registry.load("math:floor")(2.5) == 2
    with pytest.raises(UnknownNameError, match="the module math has no 'round'"):
        registry.load("math:round")


def test_an_unknown_name_is_told_the_nearest_one(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown shape 'squar'; did you mean 'square'\?"):
        registry.entry_point("squar")
    with pytest.raises(UnknownNameError, match="choose from square, or name your own as 'module:Class'"):
        registry.entry_point("zzz")


def test_a_name_leads_to_one_place(registry: Registry) -> None:
    registry.register("square", "math:sqrt")
    with pytest.raises(ValueError, match="shape 'square' is math:sqrt already"):
        registry.register("square", "math:pow")


def test_installed_packages_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(group: str) -> Any:
        assert group == "vldac.shapes"
        return [metadata.EntryPoint("circle", "math:pi", group)]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    found = Registry("shape", {}, group="vldac.shapes")
    assert found.names() == ("circle",)
    assert found.load("circle") == pytest.approx(3.14159, abs=1e-5)
