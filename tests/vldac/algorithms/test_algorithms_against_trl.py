"""The losses and advantages of TRL's trainers, on the same numbers.

What must agree to rounding are losses, their gradients and advantages: GRPO, Dr. GRPO and DAPO's loss (a higher clip,
every token alike); GRPO's KL penalty; the advantages of GRPO and LOOP, with episodes that do not count; LOOP with TRL's
RLOO, whose ratio is that of a whole response. TRL has no PPO with a critic any more: token-level PPO's policy loss is
compared with GRPO's on one advantage a token, and its GAE is held by a hand computation.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from algorithm_cases import CLIP, alone, make, rollout_tensors, token_batch
from torch import Tensor
from trl import GRPOTrainer, RLOOTrainer

from vldac import losses
from vldac.algorithms.base import RolloutTensors, TokenBatch
from vldac.importance import truncated_weights

K, LIMIT = 4, 11


def trainer(**changes: Any) -> Any:
    """What TRL's methods read of a trainer: one process, one pass, no engine."""
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), num_processes=1, process_index=0, gather=lambda x: x, reduce=lambda x, **_: x
    )
    made = MagicMock(
        accelerator=accelerator,
        model=MagicMock(training=True),
        args=MagicMock(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        beta=0.0,
        epsilon_low=CLIP,
        epsilon_high=CLIP,
        importance_sampling_level="token",
        max_completion_length=LIMIT,
        num_generations=K,
        num_iterations=1,
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        pad_to_multiple_of=None,
        environment_factories=None,
        environments=None,
        _tokenizer=SimpleNamespace(pad_token_id=0),
        processing_class=SimpleNamespace(pad_token_id=0),
        multi_objective_aggregation="sum_then_normalize",
        reward_weights=torch.ones(1),
        reward_funcs=["return"],
        reward_func_names=["return"],
        reward_clip_range=None,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _logs=defaultdict(MagicMock),
        _pending_extra_logs={},
        _pending_metrics={},
    )
    for name in ("aux_loss_enabled", "use_vllm", "_entropy_bonus_enabled", "tools", "mask_truncated_completions"):
        setattr(made, name, False)
    made.configure_mock(log_multimodal=False, normalize_advantages=False, **changes)
    return made


def trl_loss(kind: Any, stub: Any, batch: TokenBatch, reference: Tensor | None = None, **inputs_too: Tensor) -> Tensor:
    """The loss of a trainer on the responses of a batch."""
    stub._get_per_token_logps_and_entropies = lambda *_, **__: (
        torch.where(batch.mask, batch.log_probs, 0.0),
        torch.zeros_like(batch.log_probs),
        None,
    )
    ids = torch.ones(batch.mask.shape, dtype=torch.int64)
    old = torch.where(batch.mask, batch.old_log_probs, 0.0)
    inputs = {
        **{"prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids},
        **{"completion_mask": batch.mask.long(), "advantages": batch.advantages},
        **{"old_per_token_logps": old, "old_logps": old.sum(-1), "num_items_in_batch": batch.mask.sum()},
        "ref_per_token_logps": None if reference is None else torch.where(batch.mask, reference, 0.0),
    }
    loss: Tensor = kind._compute_loss(stub, stub.model, inputs | inputs_too)
    return loss


def trl_advantages(kind: Any, stub: Any, returns: list[float]) -> Tensor:
    """The advantages of a trainer where these are the rewards; NaN for none."""
    count = len(returns)
    tokens = [[1]] * count
    texts = ["-"] * count
    single = kind is RLOOTrainer
    generated: tuple[Any, ...] = (
        (tokens, tokens, texts) if single else (tokens, tokens, None, texts, None, {}, None, None)
    )
    stub._generate = lambda *_: generated
    stub._calculate_rewards = lambda *_: torch.tensor(returns).unsqueeze(-1)
    stub._get_per_token_logps_and_entropies = lambda *_, **__: (torch.zeros(count, 1), None, None)
    made: Tensor = kind._generate_and_score_completions(stub, [{"prompt": "-"} for _ in returns])["advantages"]
    return made


def same(ours: Tensor, theirs: Tensor, batch: TokenBatch) -> None:
    """Both losses and their gradients agree."""
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-6)
    mine, other = (torch.autograd.grad(loss, batch.log_probs, retain_graph=True)[0] for loss in (ours, theirs))
    assert mine.any()
    assert torch.allclose(mine, other, atol=1e-9, rtol=1e-6)


# TRL divides the KL penalty as it divides the loss; here it is a mean over steps always, as in GRPO.
@pytest.mark.parametrize(
    ("loss_type", "options", "kl"),
    [
        ("grpo", {}, 0.0),
        ("grpo", {}, 0.05),
        ("dr_grpo", {"length_normalization": "constant", "length_constant": LIMIT}, 0.0),
        ("dapo", {"length_normalization": "rollout", "clip_higher": 0.28}, 0.0),
    ],
    ids=["GRPO", "GRPO with a KL penalty", "Dr. GRPO", "DAPO"],
)
def test_grpos_loss_is_trls(loss_type: str, options: dict[str, Any], kl: float) -> None:
    batch = token_batch()
    divisor = {"grpo": 1.0, "dr_grpo": LIMIT, "dapo": float(batch.mask.sum()) / len(batch.mask)}[loss_type]
    reference = batch.old_log_probs + 0.1
    stub = trainer(loss_type=loss_type, epsilon_high=options.get("clip_higher", CLIP), beta=kl)
    theirs = trl_loss(GRPOTrainer, stub, batch, reference)
    ours = make("grpo", options).policy_loss(replace(batch, advantages=batch.advantages / divisor)).loss
    same(ours + kl * losses.kl_penalty(batch.log_probs, reference, batch.mask), theirs, batch)


def test_what_another_engine_sampled_is_weighed_as_trl_weighs_it() -> None:
    batch, cap = token_batch(), 1.1
    rows = [old[: int(length)] for old, length in zip(batch.old_log_probs, batch.mask.sum(-1), strict=True)]
    sampled = [row + 0.2 * torch.sin(3 * row) for row in rows]
    weights = torch.ones_like(batch.old_log_probs)
    for target, row in zip(weights, truncated_weights(rows, sampled, torch.zeros(1, 8), "token", cap), strict=True):
        target[: len(row)] = row
    assert 0 < int((weights == cap).sum()) < int(batch.mask.sum())
    stub = trainer(loss_type="grpo", use_vllm=True, vllm_importance_sampling_correction=True)
    # As `_generate_and_score_completions` has it for `token_truncate`, without a lower limit.
    difference = torch.zeros_like(weights)
    for target, old, engine in zip(difference, rows, sampled, strict=True):
        target[: len(old)] = old - engine
    theirs = trl_loss(GRPOTrainer, stub, batch, importance_sampling_ratio=difference.exp().clamp(max=cap))
    ours = make("grpo").policy_loss(replace(batch, advantages=batch.advantages.unsqueeze(-1) * weights)).loss
    same(ours, theirs, batch)


@pytest.mark.parametrize("level", ["step", "episode"])
def test_loops_loss_on_responses_is_that_of_trls_rloo(level: str) -> None:
    batch = token_batch()
    log_ratios = torch.where(batch.mask, batch.log_probs - batch.old_log_probs, 0.0).sum(-1).detach()
    ours = make("loop", {"ratio": level}).policy_loss(replace(batch, episode_log_ratios=log_ratios)).loss
    same(ours, trl_loss(RLOOTrainer, trainer(), batch), batch)


def test_token_level_ppos_policy_loss_is_trls_with_an_advantage_for_each_token() -> None:
    advantages = torch.randn(8, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    batch = token_batch(advantages=advantages)
    theirs = trl_loss(GRPOTrainer, trainer(loss_type="grpo"), batch)
    same(make("ppo_token").policy_loss(batch).loss, theirs, batch)


def one_step_episodes() -> tuple[RolloutTensors, list[float]]:
    """Three groups of episodes of one step; of the first group one has not ended, of the second only one has."""
    ended = torch.ones(1, 3 * K, dtype=torch.bool)
    ended[0, [1, 4, 5, 6]] = False
    rollout = replace(rollout_tensors(1, 3 * K), terminated=ended, truncated=torch.zeros_like(ended))
    return rollout, rollout.rewards.masked_fill(~ended, torch.nan).flatten().tolist()


@pytest.mark.parametrize("scale", [True, False])
def test_grpos_advantages_are_trls(scale: bool) -> None:
    rollout, returns = one_step_episodes()
    ours = torch.stack(list(make("grpo", {"scale": scale}).targets(rollout, alone).advantages))
    theirs = trl_advantages(GRPOTrainer, trainer(scale_rewards="group" if scale else "none"), returns)
    # Alone in its group, an episode has a standard deviation of NaN there as well, and so no advantage.
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert int((ours != 0).sum()) == 3 + K


def test_loops_advantages_are_those_of_trls_rloo() -> None:
    rollout, returns = one_step_episodes()
    ours = torch.stack(list(make("loop").targets(rollout, alone).advantages))
    theirs = trl_advantages(RLOOTrainer, trainer(), returns)
    assert torch.allclose(ours, theirs, atol=1e-6)
