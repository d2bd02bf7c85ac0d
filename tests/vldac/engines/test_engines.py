"""The seam between a rollout and what generates; an engine from outside serves a whole rollout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from envs.gym_cards import NumberLine
from vldac import engines
from vldac.acting import Actor
from vldac.config import ConfigError, parse
from vldac.distributed import Runtime
from vldac.models.vlm import VLM, Prompt, Response
from vldac.policy import load_base
from vldac.rollout import Collector
from vldac.train import make_simulators

ALWAYS = '{"thoughts": "scripted", "action": "+"}'


class Scripted:
    """Writes the same response whatever it is shown."""

    exact = False

    def __init__(self, vlm: VLM) -> None:
        self.vlm, self.versions = vlm, list[int]()

    def generate(self, prompts: Sequence[Prompt], **_options: Any) -> list[Response]:
        ids = self.vlm.encode_response(ALWAYS)
        return [Response(ids, torch.zeros(len(ids))) for _ in prompts]

    def update_weights(self, version: int) -> None:
        self.versions.append(version)

    def close(self) -> None:
        pass


def test_an_engine_from_outside_serves_a_rollout(
    tiny_base: Path, tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scripted_engine", sys.modules[__name__])
    config = tiny_config({"rollout": {"engine": "scripted_engine:Scripted"}})
    vlm = load_base(tiny_base, config.model)
    engine = engines.make(config.rollout.engine, vlm)
    with make_simulators(config, 1, Runtime(0, 1, torch.device("cpu"))) as simulators:
        collector = Collector(Actor(vlm, max_new_tokens=8, engine=engine), simulators)
        collector.start()
        rollout = collector.collect(3)
    assert rollout.invalid == 0
    assert {vlm.decode(step.response.token_ids) for row in rollout.steps for step in row} == {ALWAYS}


def test_an_engine_without_options_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scripted_engine", sys.modules[__name__])
    with pytest.raises(ConfigError, match="scripted_engine:Scripted has no options; leave"):
        parse({"rollout": {"engine": "scripted_engine:Scripted", "engine_options": {"compiled": True}}})


def test_names_are_checked_before_a_run() -> None:
    with pytest.raises(ConfigError, match=r"unknown engine 'transformer'; did you mean 'transformers'\?"):
        parse({"rollout": {"engine": "transformer"}})


def test_one_actor_answers_a_batch_as_it_answers_one_by_one(tiny_base: Path, tiny_config: Any) -> None:
    actor = Actor(load_base(tiny_base, tiny_config().model), max_new_tokens=24)
    game = NumberLine(width=32, height=32, prompt_style="terse")
    shown = [game.reset(seed=seed)[0] for seed in range(4)]
    together, alone = actor.act(shown), [actor.act([observation])[0] for observation in shown]
    assert [decision.text for decision in together] == [decision.text for decision in alone]
    assert any(decision.action in game.action_names for decision in together)
