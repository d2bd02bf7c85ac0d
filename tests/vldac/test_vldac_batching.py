"""Questions in batches: the answers of the simulator's policy, in order, within bounds."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vldac import policy
from vldac.acting import Actor
from vldac.batching import Batcher, BusyError


class Gate:
    """A policy that answers when it is let, and says of each question what it was; `bad` cannot be answered."""

    def __init__(self) -> None:
        self.open, self.asked = threading.Event(), threading.Event()
        self.batches, self.temperature = list[list[str]](), 0.0

    def at(self, temperature: float) -> Gate:
        self.temperature = temperature
        return self

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[str]:
        prompts = [observation["prompt"] for observation in observations]
        self.batches.append(prompts)
        self.asked.set()
        self.open.wait(30)
        if "bad" in prompts:
            raise ValueError("no picture")
        return [f"{prompt} {self.temperature} {seed}" for prompt, seed in zip(prompts, seeds, strict=True)]


def ask(batcher: Batcher, prompt: str, temperature: float = 0.0, patience: float = 60.0) -> Future[Any]:
    observation: Any = {"prompt": prompt}
    return batcher.ask(observation, temperature=temperature, seed=len(prompt), patience=patience)


def gated(**options: Any) -> tuple[Gate, Batcher, Future[Any]]:
    """A batcher whose first question holds up the others."""
    gate = Gate()
    policy: Any = gate
    batcher = Batcher(policy, **options)
    first = ask(batcher, "first")
    assert gate.asked.wait(30)
    return gate, batcher, first


def test_what_waits_is_answered_together_by_temperature_and_in_order() -> None:
    gate, batcher, first = gated(size=2, wait=0.0)
    asked = [ask(batcher, *each) for each in (("a",), ("warm", 1.0), ("b",), ("c",))]
    gate.open.set()
    batcher.close()
    assert first.result() == "first 0.0 5"
    assert [each.result() for each in asked] == ["a 0.0 1", "warm 1.0 4", "b 0.0 1", "c 0.0 1"]
    assert gate.batches == [["first"], ["a", "b"], ["warm"], ["c"]]
    assert not batcher.alive


def test_more_than_may_wait_and_what_waits_too_long_are_refused_with_a_time() -> None:
    gate, batcher, _ = gated(size=1, capacity=2, wait=0.0)
    late, kept = ask(batcher, "late", patience=-1.0), ask(batcher, "kept")
    assert batcher.full
    with pytest.raises(BusyError, match="2 questions wait already") as refused:
        ask(batcher, "one more")
    assert refused.value.retry_after >= 1
    gate.open.set()
    assert kept.result(30) == "kept 0.0 4"
    with pytest.raises(BusyError, match="did not come in time"):
        late.result(30)
    batcher.close()
    with pytest.raises(BusyError, match="stopping"):
        ask(batcher, "closed")


def test_a_question_that_cannot_be_answered_fails_alone() -> None:
    gate, batcher, _ = gated(size=3, wait=0.0)
    ask(batcher, "gone").cancel()
    good, bad, other = (ask(batcher, prompt) for prompt in ("good", "bad", "other"))
    gate.open.set()
    batcher.close()
    assert (good.result(), other.result()) == ("good 0.0 4", "other 0.0 5")
    with pytest.raises(ValueError, match="no picture"):
        bad.result()
    assert gate.batches[1:] == [["good", "bad", "other"], ["good"], ["bad"], ["other"]]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_answers_are_those_of_the_policy_alone_token_for_token(
    temperature: float, tiny_base: Path, tiny_config: Any
) -> None:
    vlm = policy.load_base(tiny_base, tiny_config().model)
    actor = Actor(vlm, max_new_tokens=12)
    rng = np.random.default_rng(0)
    observations: list[Any] = [
        {"frames": rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8), "prompt": "number line." + " go" * number}
        for number in range(5)
    ]
    batches: list[int] = []
    batcher = Batcher(actor, size=3, wait=5.0, on_batch=batches.append)
    asked = [
        batcher.ask(observation, temperature=temperature, seed=2**40 + number, patience=60)
        for number, observation in enumerate(observations)
    ]
    batcher.close()
    assert batches == [3, 2]
    for number, (observation, answer) in enumerate(zip(observations, asked, strict=True)):
        (alone,) = actor.at(temperature).act([observation], [2**40 + number])
        assert answer.result().response.token_ids.tolist() == alone.response.token_ids.tolist()
