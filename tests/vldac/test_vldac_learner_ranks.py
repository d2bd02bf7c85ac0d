"""The learner on two ranks and at every ZeRO stage, each in processes of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import learner_cases
import pytest
import ranks
from learner_cases import CLIPPED, Outcome, assert_same, run_case

from vldac.config import parse
from vldac.distributed import Runtime

WHOLE = {
    "train": {
        "batch_size": 8,
        "micro_batch_size": 4,
        "value_warmup": 0,
        "total_steps": 64,
        "max_grad_norm": CLIPPED,
    }
}


def run_ranks(base: Path, params: dict[str, Any], **arguments: Any) -> list[Outcome]:
    return [Outcome(**each) for each in ranks.run_ranks(learner_cases.outcome, base, params, **arguments)]


@pytest.fixture(scope="module")
def whole_rollout(tiny_config: Any, tiny_base: Path, runtime: Runtime) -> Outcome:
    """What one process makes of all steps at once."""
    return run_case(tiny_config(WHOLE), tiny_base, runtime)


def assert_alike(one: dict[str, float], other: dict[str, float], tolerance: float) -> None:
    """Asserts that metrics are the same, but for those of time and of rounding."""
    names = {name for name in one.keys() & other.keys() if not name.startswith(("time/", "health/"))}
    assert "policy/entropy" in names
    for name in names:
        assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance and 1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_ranks_at_every_zero_stage_learn_what_one_process_learns_from_all_steps(
    stage: int, tiny_params: Any, tiny_base: Path, tmp_path: Path, whole_rollout: Outcome
) -> None:
    params = tiny_params({**WHOLE, "deepspeed": {"ranks": 2, "zero_stage": stage}})
    state = tmp_path / "state"
    first, second = run_ranks(tiny_base, params, state=state)
    assert_same(first.weights, second.weights, 0.0)
    assert_same(first.value_head, second.value_head, 0.0)
    assert_same(first.weights, whole_rollout.weights, 1e-5)
    assert_same(first.value_head, whole_rollout.value_head, 1e-5)
    for one, two, alone in zip(first.metrics, second.metrics, whole_rollout.metrics, strict=True):
        assert ("policy/grad_norm" in one) == (stage > 0)  # DeepSpeed does not tell it at stage 0
        assert_alike(one, two, 0.0)
        assert_alike(one, alone, 1e-3)
    # What two ranks have saved after the first update, one process continues from, without ZeRO, to the same end.
    (resumed,) = run_ranks(
        tiny_base, tiny_params({**WHOLE, "deepspeed": {"ranks": 1, "zero_stage": 0}}), state=state, first=1
    )
    assert_same(resumed.weights, first.weights, 1e-5)
    assert_same(resumed.value_head, first.value_head, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("rl4vlm", {}),
        ("loop", {"group_size": 2, "ratio": "episode"}),
        ("grpo", {"group_size": 2, "length_normalization": "rollout"}),
        ("ppo_token", {}),
    ],
)
def test_two_ranks_learn_what_one_process_learns_with_every_algorithm(
    algorithm: str, options: dict[str, Any], tiny_params: Any, tiny_base: Path, tmp_path: Path, runtime: Runtime
) -> None:
    train = {**WHOLE["train"], "algorithm": algorithm, "algorithm_options": options}
    params = tiny_params({"train": train, "deepspeed": {"ranks": 2, "zero_stage": 2}})
    state = tmp_path / "state"
    first, second = run_ranks(tiny_base, params, state=state)
    whole = run_case(parse(tiny_params({"train": train})), tiny_base, runtime)
    resumed, _ = run_ranks(tiny_base, params, state=state, first=1)
    assert bool(first.value_head) == (algorithm not in {"loop", "grpo"})
    for outcome, tolerance in ((second, 0.0), (resumed, 0.0), (whole, 1e-5)):
        assert_same(first.weights, outcome.weights, tolerance)
        assert_same(first.value_head, outcome.value_head, tolerance)
    for one, two, alone in zip(first.metrics, second.metrics, whole.metrics, strict=True):
        assert_alike(one, two, 0.0)
        assert_alike(one, alone, 1e-3)
    for name in first.metrics[0].keys() & {"rollout/zero_advantage_steps", "rollout/incomplete_episode_steps"}:
        assert first.metrics[0][name] == pytest.approx(whole.metrics[0][name], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_one_rank_learns_the_same_at_every_zero_stage(
    stage: int, tiny_params: Any, tiny_base: Path, tmp_path: Path, whole_rollout: Outcome
) -> None:
    (outcome,) = run_ranks(tiny_base, tiny_params({**WHOLE, "deepspeed": {"ranks": 1, "zero_stage": stage}}))
    assert_same(outcome.weights, whole_rollout.weights, 1e-5)
    assert_same(outcome.value_head, whole_rollout.value_head, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "dtype", "lora_rank"),
    [
        (1, "float32", 4),
        (1, "bfloat16", 4),
        (3, "float32", 4),
        (3, "bfloat16", 4),
        (1, "float32", 0),
        (3, "bfloat16", 0),
    ],
)
def test_a_state_is_resumed_bit_for_bit_on_as_many_ranks(
    stage: int, dtype: str, lora_rank: int, tiny_params: Any, tiny_base: Path, tmp_path: Path
) -> None:
    model = {"dtype": dtype, "lora_rank": lora_rank}
    params = tiny_params({**WHOLE, "model": model, "deepspeed": {"ranks": 2, "zero_stage": stage}})
    state = tmp_path / "state"
    whole = run_ranks(tiny_base, params, state=state)
    resumed = run_ranks(tiny_base, params, state=state, first=1)
    for one, other in zip(whole, resumed, strict=True):
        assert_same(one.weights, other.weights, 0.0)
        assert_same(one.value_head, other.value_head, 0.0)
        assert one.metrics[1]["loss/policy"] == other.metrics[0]["loss/policy"]
