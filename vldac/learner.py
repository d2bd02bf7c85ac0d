"""One update: from a rollout to new weights, under DeepSpeed.

The policy is a DeepSpeed engine at any ZeRO stage. The critic is decoupled from it: its input is detached, so its
gradient shares nothing with the policy's, and it has an optimizer and a gradient limit of its own, in float32.
What distinguishes one algorithm from another is asked of `vldac.algorithms.base.Algorithm`.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import Tensor

from vldac import losses
from vldac.acting import action_mask
from vldac.advantages import explained_variance
from vldac.algorithms.base import Algorithm, PolicyLoss, Targets, TokenBatch
from vldac.config import Config
from vldac.critic import Critic
from vldac.distributed import Runtime
from vldac.models.vlm import VLM
from vldac.rollout import Rollout, Step
from vldac.scoring import OldScores, Scorer
from vldac.states import SafeCheckpointEngine
from vldac.utils.errors import UserError

#: How far the first ratio of an update may be from 1, by dtype, before the run is stopped as inconsistent.
RATIO_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5}


class HealthError(UserError):
    """The learner's own numbers contradict each other; another update would train on nonsense."""


class Learner:
    """Holds everything that is trained and makes one update at a time.

    Args:
        config: the run's configuration.
        vlm: the model, without an adapter; one is added if the configuration asks for it.
        algorithm: what is maximized.
        runtime: this rank.
        generator: shuffles the minibatches.
    """

    def __init__(
        self, config: Config, vlm: VLM, algorithm: Algorithm, runtime: Runtime, generator: torch.Generator
    ) -> None:
        self.config, self.algorithm, self.runtime, self.generator = config, algorithm, runtime, generator
        self.reference: VLM | None = None
        if config.model.lora_rank:
            vlm.add_adapter(config.model.lora_rank, config.model.lora_alpha)
        elif config.train.kl_coefficient:
            self.reference = copy.deepcopy(vlm).requires_grad_(False).to(runtime.device).eval()
        self.vlm = vlm.to(runtime.device).eval()  # no dropout anywhere: every log-probability is of one network
        #: None for an algorithm without one.
        self.critic = Critic(vlm.hidden_size, config.train, runtime) if algorithm.uses_critic else None
        # Gloo serves CPU ranks without this kernel, whose compilation needs g++ and most of a minute.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        trained = [p for p in self.vlm.parameters() if p.requires_grad]
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=self.vlm,
            optimizer=torch.optim.Adam(trained, lr=config.train.learning_rate),
            config=deepspeed_config(config, sum(p.numel() for p in trained)),
        )
        self.engine.checkpoint_engine = SafeCheckpointEngine(self.engine._config)
        self.engine.eval()
        self.vlm.lockstep = config.deepspeed.zero_stage == 3 and runtime.world_size > 1
        self.scorer = Scorer(
            self.vlm,
            algorithm,
            self.critic.head if self.critic else None,
            self._reference_policy if config.train.kl_coefficient else None,
            runtime,
            temperature=config.rollout.temperature,
            micro_batch_size=config.micro_batch_size,
        )

    def update(self, rollout: Rollout, update: int) -> dict[str, float]:
        """Learns from a rollout.

        Args:
            rollout: T steps of this rank's simulators.
            update: how many updates came before.

        Returns:
            Metrics, averaged over ranks.

        Raises:
            HealthError: the first ratio of the update is not 1, or a loss is not finite.
        """
        started = time.perf_counter()
        policy_frozen = self.critic is not None and update < self.config.train.value_warmup
        rate = learning_rate(self.config, update)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        steps = [step for row in rollout.steps for step in row]
        old = self.scorer.score(rollout)
        targets = self.algorithm.targets(old.tensors, self.runtime.sum)

        means = _Means()
        first_ratio_error: float | None = None
        for _ in range(self.config.train.epochs):
            for batch in self._batches(len(steps)):
                error = self._optimizer_step(steps, batch, old, targets, means, policy_frozen=policy_frozen)
                if first_ratio_error is None:
                    first_ratio_error = self._check_first_ratio(error)
        gap = max(
            float((row - step.response.log_probs).abs().max()) for row, step in zip(old.log_probs, steps, strict=True)
        )
        if self.critic:
            values, returns = (
                torch.cat([row.flatten() for row in rows]) for rows in (old.tensors.values, targets.returns)
            )
            means.add("critic/explained_variance", torch.tensor(explained_variance(values, returns)))
            means.add("critic/value", values.mean())
            means.add("critic/return", returns.mean())
        return means.over_ranks(self.runtime) | {
            "health/first_ratio_error": first_ratio_error or 0.0,
            "health/sampler_log_prob_gap": self.runtime.max(gap),
            "train/learning_rate": rate,
            "train/policy_frozen": float(policy_frozen),
            "time/learning_s": time.perf_counter() - started,
        }

    def _optimizer_step(
        self,
        steps: list[Step],
        batch: list[int],
        old: OldScores,
        targets: Targets,
        means: _Means,
        *,
        policy_frozen: bool,
    ) -> float:
        """One optimizer step of the policy and one of the critic on the steps numbered `batch`.

        Returns:
            The largest |ratio - 1|.
        """
        micro = self.config.micro_batch_size
        parts = [batch[start : start + micro] for start in range(0, len(batch), micro)]
        worst = 0.0
        for part in parts:
            prompts, responses = [steps[i].prompt for i in part], [steps[i].response.token_ids for i in part]
            with torch.set_grad_enabled(not policy_frozen):
                scores = self.engine(prompts, responses, self.config.rollout.temperature)
                width = scores.mask.shape[1]
                tokens = TokenBatch(
                    log_probs=scores.log_probs,
                    old_log_probs=self._padded([old.log_probs[i] for i in part], width),
                    advantages=self._padded([targets.advantages[i] for i in part], width),
                    mask=scores.mask,
                    action_mask=self._action_mask([steps[i] for i in part], width),
                )
                policy = self.algorithm.policy_loss(tokens)
                loss = policy.loss
                means.add("loss/policy", loss)
                if self.config.train.kl_coefficient:
                    reference = self._padded([old.reference_log_probs[i] for i in part], width)
                    kl = losses.kl_penalty(scores.log_probs, reference, scores.mask)
                    loss = loss + self.config.train.kl_coefficient * kl
                    means.add("policy/kl_to_reference", kl)
            if not policy_frozen:
                _require_finite(loss, "policy loss")
                self.engine.backward(loss)
                self.engine.step()
            if self.critic:
                values = self.critic.head(self.algorithm.critic_states(scores.states))
                returns = self._padded([targets.returns[i] for i in part], width)
                value_loss = self.algorithm.value_loss(values, returns, scores.mask)
                _require_finite(value_loss, "value loss")
                self.critic.backward(value_loss, len(parts))
                means.add("loss/value", value_loss)
            worst = _note(means, policy, scores.entropies, tokens, worst)
        # DeepSpeed does not tell the norm at ZeRO stage 0.
        if not policy_frozen and (norm := self.engine.get_global_grad_norm()) is not None:
            means.add("policy/grad_norm", torch.tensor(float(norm)))
        if self.critic:
            means.add("critic/grad_norm", self.critic.step())
        return worst

    def _padded(self, rows: list[Tensor], width: int) -> Tensor:
        """Rows, each () or (R_i,), as one (B,) or (B, width) tensor on the device, zeros on the right."""
        if not rows[0].ndim:
            return torch.stack(rows).to(self.runtime.device)
        padded = torch.zeros(len(rows), width, dtype=rows[0].dtype)
        for target, row in zip(padded, rows, strict=True):
            target[: len(row)] = row
        return padded.to(self.runtime.device)

    def _action_mask(self, steps: list[Step], width: int) -> Tensor | None:
        if not self.algorithm.uses_action_mask:
            return None
        return self._padded([action_mask(step.response.token_ids, self.vlm.decode) for step in steps], width)

    @contextlib.contextmanager
    def _reference_policy(self) -> Iterator[VLM]:
        if self.reference is not None:
            yield self.reference
        else:
            with self.vlm.adapter_disabled():
                yield self.vlm

    def _batches(self, count: int) -> Iterator[list[int]]:
        """This rank's share of each optimizer step of one epoch, in random order."""
        share = self.config.train.batch_size // self.runtime.world_size
        order = torch.randperm(count, generator=self.generator).tolist()
        for start in range(0, count, share):
            yield order[start : start + share]

    def _check_first_ratio(self, error: float) -> float:
        worst = self.runtime.max(error)
        tolerance = RATIO_TOLERANCE[self.config.model.dtype]
        if not worst <= tolerance:
            raise HealthError(
                f"the first ratio of this update differs from 1 by {worst:.3g} (tolerance {tolerance}): old and new "
                "log-probabilities do not come from the same weights, temperature and tokens"
            )
        return worst

    @contextlib.contextmanager
    def gathered(self) -> Iterator[VLM]:
        """Yields the policy with whole weights on every rank, for saving."""
        sharded = self.config.deepspeed.zero_stage == 3
        gather = deepspeed.zero.GatheredParameters(list(self.vlm.parameters())) if sharded else contextlib.nullcontext()
        with gather:
            yield self.vlm

    # Checkpoints

    def save(self, directory: Path) -> None:
        """Writes the engine's state and the critic's; every rank must call it."""
        self.engine.save_checkpoint(str(directory), tag="engine", save_latest=False, exclude_frozen_parameters=True)
        if self.critic and self.runtime.is_main:
            self.critic.save(directory)

    def load(self, directory: Path) -> None:
        """Reads what `save` wrote.

        Raises:
            CheckpointError: a file holds something else.
            FileNotFoundError: there is none.
        """
        loaded, _ = self.engine.load_checkpoint(str(directory), tag="engine", load_module_strict=False)
        if loaded is None:
            raise FileNotFoundError(f"{directory} holds no DeepSpeed state")
        if self.critic:
            self.critic.load(directory)


def learning_rate(config: Config, update: int) -> float:
    """Cosine from `learning_rate` at the first update to `final_learning_rate` at the last."""
    first, last = config.train.learning_rate, config.train.final_learning_rate
    progress = min(1.0, update / max(1, config.updates - 1))
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * progress))


def deepspeed_config(config: Config, trained_parameters: int) -> dict[str, Any]:
    """The engine's configuration. The optimizer is torch's own, so nothing is compiled at run time."""
    train, settings = config.train, config.deepspeed
    # ZeRO allocates a whole bucket in every backward pass; its default of 5e8 numbers is for models of billions.
    bucket = min(trained_parameters, 500_000_000)
    zero: dict[str, Any] = {
        "stage": settings.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if settings.zero_stage == 3:
        zero |= {"stage3_gather_16bit_weights_on_model_save": True}
    if settings.offload_optimizer and settings.zero_stage:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": train.batch_size // (config.micro_batch_size * settings.ranks),
        "gradient_clipping": train.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.model.dtype == "bfloat16"},
        "steps_per_print": 10**9,
    }


def _require_finite(loss: Tensor, name: str) -> None:
    if not torch.isfinite(loss):
        raise HealthError(f"the {name} is {float(loss.detach())}; lower train.learning_rate or train.max_grad_norm")


def _note(means: _Means, policy: PolicyLoss, entropies: Tensor, tokens: TokenBatch, worst: float) -> float:
    """Notes what a micro-batch says of the policy; returns the largest |ratio - 1| so far."""
    with torch.no_grad():
        for name, value in policy.metrics.items():
            means.add(name, value)
        means.add("policy/entropy", losses.step_mean(entropies, tokens.mask))
        means.add("policy/kl_to_old", losses.kl_penalty(tokens.old_log_probs, tokens.log_probs, tokens.mask))
        error = (policy.ratios - 1).abs().max()
        return float(torch.tensor([worst, error]).max())  # unlike Python's max, keeps a NaN


class _Means:
    """Running means of named numbers."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor) -> None:
        value = value.detach().double().cpu()
        self.totals[name] = self.totals.get(name, torch.zeros((), dtype=torch.float64)) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def over_ranks(self, runtime: Runtime) -> dict[str, float]:
        names = sorted(self.totals)
        means = torch.stack([self.totals[name] / self.counts[name] for name in names])
        return dict(zip(names, (runtime.sum(means) / runtime.world_size).tolist(), strict=True))
