"""One update: from a rollout to new weights, under DeepSpeed.

The policy is a DeepSpeed engine at any ZeRO stage. The critic is decoupled from it: its input is detached, so its
gradient shares nothing with the policy's, and it has an optimizer and a gradient limit of its own, in float32.
What distinguishes one algorithm from another is asked of `vldac.algorithms.base.Algorithm`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vldac import health, importance, learner_state, losses
from vldac.acting import action_mask
from vldac.advantages import explained_variance
from vldac.algorithms.base import Algorithm, Targets, TokenBatch
from vldac.config import Config, ConfigError
from vldac.critic import Critic
from vldac.distributed import Runtime
from vldac.health import HealthError
from vldac.minibatches import equal_passes, micro_batches, minibatches
from vldac.models.vlm import VLM, Scores
from vldac.plan import LARGEST_BUCKET, memory
from vldac.reference import Reference
from vldac.rollout import Rollout, Step
from vldac.scoring import OldScores, Scorer
from vldac.utils.seeding import derive_seed
from vldac.utils.zero import deepspeed, work_on

_log = logging.getLogger(__name__)


class Learner:
    """Holds everything that is trained and makes one update at a time.

    Args:
        config: the run's configuration.
        vlm: the model, without an adapter; one is added if the configuration asks for it.
        algorithm: what is maximized.
        runtime: this rank.

    Raises:
        ConfigError: batches cannot be made as the algorithm needs them.
    """

    def __init__(self, config: Config, vlm: VLM, algorithm: Algorithm, runtime: Runtime) -> None:
        self.config, self.algorithm, self.runtime = config, algorithm, runtime
        _require_whole_batches(config, algorithm, runtime.world_size)
        #: Tokens of one forward pass, padding included; lowered where memory has run out.
        self.token_budget = config.train.token_budget
        if config.model.lora_rank:
            vlm.add_adapter(config.model.lora_rank, config.model.lora_alpha)
        work_on(runtime.device)
        self.vlm = vlm.to(runtime.device).eval()  # no dropout anywhere: every log-probability is of one network
        #: None for an algorithm without one.
        self.critic = Critic(vlm.hidden_size, config.train, runtime) if algorithm.uses_critic else None
        trained = [p for p in self.vlm.parameters() if p.requires_grad]
        every, trained_numbers = numbers(self.vlm.parameters()), numbers(trained)
        adapter = trained_numbers if config.model.lora_rank else 0
        #: What one rank is planned to take, in MiB by name (`vldac.plan`).
        self.planned = memory(config, vlm.backbone.config, (every - adapter, adapter))
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=self.vlm,
            optimizer=torch.optim.Adam(trained, lr=config.train.learning_rate),
            config=deepspeed_config(config, trained_numbers, runtime.world_size),
        )
        self.engine.eval()
        if self.planned["gradient_checkpointing"]:
            self.vlm.allow_recomputing()
        if config.model.lora_rank:
            with self._whole([self.vlm.family.lm_head(self.vlm.backbone).weight]):
                self.vlm.keep_head()
        #: Of full fine-tuning with a penalty to it; with an adapter, the model without it is the reference.
        self.reference = Reference(self.engine) if self._uses_reference and not config.model.lora_rank else None
        self.vlm.lockstep = config.deepspeed.zero_stage == 3 and runtime.world_size > 1
        #: Whether each rank, by its plan, can hold whole weights while it samples from shards of them.
        self.gathers_once = runtime.max(not self.planned.get("weights_gathered_once")) == 0
        self.scorer = Scorer(
            self.vlm,
            algorithm,
            self.critic.head if self.critic else None,
            self._reference_policy if self._uses_reference else None,
            runtime,
            temperature=config.rollout.temperature,
            micro_batch_size=config.train.micro_batch_size,
            token_budget=config.train.token_budget,
            reuse=config.train.old_scores != "computed" and config.model.dtype == "float32",
        )

    @property
    def _uses_reference(self) -> bool:
        return self.config.train.kl_coefficient > 0 and self.config.train.kl_to == "reference"

    def update(self, rollout: Rollout, update: int) -> dict[str, float]:
        """Learns from a rollout.

        Args:
            rollout: T steps of this rank's simulators.
            update: how many updates came before.

        Returns:
            Metrics, averaged over ranks.

        Raises:
            HealthError: log-probabilities of the same weights do not agree, or a loss is not finite.
        """
        started = time.perf_counter()
        policy_frozen = self.critic is not None and update < self.config.train.value_warmup
        rate = learning_rate(self.config, update)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        steps = [step for row in rollout.steps for step in row]
        on_policy, dtype = rollout.version == update, self.config.model.dtype
        old = self.scorer.score(rollout, on_policy=on_policy, policy_frozen=policy_frozen)
        targets = self.algorithm.targets(old.tensors, self.runtime.sum)
        behavior = [step.response.log_probs for step in steps]
        if not old.sampled:
            sampled = health.compare(old.log_probs, behavior, self.runtime)
            if on_policy:
                what = "the engine's log-probabilities and the learner's"
                health.require(sampled, dtype if rollout.exact else health.OTHER_KERNELS, what)
        weighed: dict[str, float] = {}
        if not rollout.exact and self.config.train.importance_cap is not None:
            targets, weighed = self._weighed(targets, old, behavior, self.config.train.importance_cap)
        work = _Work(steps, old, targets, policy_frozen)
        means = work.means
        for name, value in targets.metrics.items():
            means.add(name, value)
        first: health.Agreement | None = None
        for epoch in range(self.config.train.epochs):
            for batch in self._batches(update, epoch):
                scored = self._optimizer_step(work, batch, again=epoch > 0 or not old.sampled)
                if first is None:
                    first = health.compare(scored, [old.log_probs[i] for i in batch], self.runtime)
                    health.require(first, dtype, "old and new log-probabilities of the first batch")
        assert first is not None
        gap = first if old.sampled else sampled  # in the former case, no other pass has scored the responses
        if self.critic:
            values, returns = (
                self.runtime.concatenated(torch.cat([row.flatten() for row in rows]))
                for rows in (old.tensors.values, targets.returns)
            )
            means.add("critic/explained_variance", torch.tensor(explained_variance(values, returns)))
            means.add("critic/value", values.mean())
            means.add("critic/return", returns.mean())
        return means.over_ranks(self.runtime) | {
            **weighed,
            "health/first_ratio_error": first.largest,
            "health/sampler_log_prob_gap": gap.largest,
            "health/sampler_log_prob_bias": gap.bias,
            "train/learning_rate": rate,
            "train/policy_frozen": float(policy_frozen),
            "time/learning_s": time.perf_counter() - started,
        }

    def _weighed(
        self, targets: Targets, old: OldScores, behavior: Sequence[Tensor], cap: float
    ) -> tuple[Targets, dict[str, float]]:
        """Targets of what another engine has sampled at the log-probabilities `behavior`, and metrics of the weights.

        They multiply the policy loss, and here the advantages: no weight is negative, so that min(w r A, w clip(r) A)
        is w min(r A, clip(r) A).
        """
        weights = importance.truncated_weights(
            old.log_probs, behavior, old.tensors.episodes, self.algorithm.ratio_level, cap
        )
        weighted = [weight * each for weight, each in zip(weights, targets.advantages, strict=True)]
        return replace(targets, advantages=weighted), importance.summary(weights, self.runtime)

    def _optimizer_step(self, work: _Work, batch: list[int], *, again: bool) -> list[Tensor]:
        """One optimizer step of the policy and one of the critic on the steps numbered `batch`.

        Args:
            work: the update.
            batch: steps.
            again: whether the weights before the update have made a forward pass over them already.

        Returns:
            The log-probabilities (R_i,) of each step's response before the optimizer step, on the CPU.
        """
        log_ratios = self._episode_log_ratios(work, batch)
        scored: dict[int, Tensor] = {}
        known = work.old.kept if again else None
        waiting = self._passes(work.steps, batch)
        while waiting:
            part, count = waiting.pop(0)
            with torch.set_grad_enabled(not work.policy_frozen):
                steps = [work.steps[i] for i in part]
                scores = self._scored(steps) if known is None else known.of(part, self.runtime.device)
            if scores is None:
                half = len(part) // 2
                waiting[:0] = [(part[:half], half), (part[half:], len(part) - half)]
                continue
            if work.old.kept is not None and not again:
                work.old.kept.add(part, scores)
            self._backward(work, part, scores, self._tokens(work, part, scores, log_ratios), count / len(batch))
            rows = zip(part, scores.log_probs.detach().cpu(), strict=True)
            scored |= {i: row[: len(work.steps[i].response.token_ids)] for i, row in rows}
        if not work.policy_frozen:
            self.engine.step()
            # DeepSpeed does not tell the norm at ZeRO stage 0.
            if (norm := self.engine.get_global_grad_norm()) is not None:
                work.means.add("policy/grad_norm", torch.tensor(float(norm)))
        if self.critic:
            work.means.add("critic/grad_norm", self.critic.step())
        return [scored[i] for i in batch]

    def _tokens(self, work: _Work, part: list[int], scores: Scores, log_ratios: dict[int, Tensor] | None) -> TokenBatch:
        """One pass as the algorithm sees it."""
        width = scores.mask.shape[1]
        return TokenBatch(
            log_probs=scores.log_probs,
            old_log_probs=self._padded([work.old.log_probs[i] for i in part], width),
            advantages=self._padded([work.targets.advantages[i] for i in part], width),
            mask=scores.mask,
            action_mask=self._action_mask([work.steps[i] for i in part], width),
            episode_log_ratios=None if log_ratios is None else self._padded([log_ratios[i] for i in part], width),
        )

    def _backward(self, work: _Work, part: list[int], scores: Scores, tokens: TokenBatch, share: float) -> None:
        """Adds the gradient of one pass, which holds `share` of the steps of its batch."""
        with torch.set_grad_enabled(not work.policy_frozen):
            policy = self.algorithm.policy_loss(tokens)
            loss = policy.loss
            noted = {"loss/policy": loss, **policy.metrics}
            if self.config.train.kl_coefficient:
                anchor = tokens.old_log_probs
                if self._uses_reference and work.policy_frozen:
                    anchor = scores.log_probs  # which no update has moved from the reference's
                elif self._uses_reference:
                    anchor = self._padded([work.old.reference_log_probs[i] for i in part], scores.mask.shape[1])
                kl = losses.kl_penalty(scores.log_probs, anchor, scores.mask)
                loss = loss + self.config.train.kl_coefficient * kl
                if self._uses_reference:
                    noted["policy/kl_to_reference"] = kl
        if self.critic:
            shared = not (self.algorithm.stop_gradient or work.policy_frozen)
            value_loss = self._value_loss(self.critic, work, part, scores, stop_gradient=not shared)
            noted["loss/value"] = value_loss
            if shared:
                loss = loss + self.config.train.value_coefficient * value_loss
            else:
                self.critic.backward(value_loss, share)
        if not work.policy_frozen:
            _require_finite(loss, "policy loss")
            self.engine.backward(loss * share)
        with torch.no_grad():
            assert scores.entropies is not None
            noted["policy/entropy"] = losses.step_mean(scores.entropies, tokens.mask)
            noted["policy/kl_to_old"] = losses.kl_penalty(tokens.old_log_probs, tokens.log_probs, tokens.mask)
            for name, value in noted.items():
                work.means.add(name, value, share)

    def _value_loss(
        self, critic: Critic, work: _Work, part: list[int], scores: Scores, *, stop_gradient: bool
    ) -> Tensor:
        values = critic.head(scores.states, stop_gradient=stop_gradient)
        returns = self._padded([work.targets.returns[i] for i in part], scores.mask.shape[1])
        loss = self.algorithm.value_loss(values, returns, scores.mask)
        _require_finite(loss, "value loss")
        return loss

    def _passes(self, steps: Sequence[Step], batch: list[int]) -> list[tuple[list[int], int]]:
        """The forward passes of this rank's share of a batch, each with the steps that it counts for."""
        lengths = [len(step.prompt.input_ids) + len(step.response.token_ids) for step in steps]
        parts = micro_batches(batch, lengths, self.config.train.micro_batch_size, self.token_budget)
        return equal_passes(parts, int(self.runtime.max(len(parts))))

    def _scored(self, steps: Sequence[Step]) -> Scores | None:
        """One forward pass with gradient; None where memory ran out and fewer steps may be tried.

        It may be tried again where no other rank takes part in the pass. The limit is lowered for the rest of the run.
        States are those that the critic reads.
        """
        prompts, responses = [step.prompt for step in steps], [step.response.token_ids for step in steps]
        try:
            scores: Scores
            with self.vlm.recomputing() if self.planned["gradient_checkpointing"] else contextlib.nullcontext():
                scores = self.engine(prompts, responses, self.config.rollout.temperature, entropies=True)
        except torch.OutOfMemoryError:
            alone = self.runtime.world_size == 1 or self.config.deepspeed.zero_stage < 2
            if len(steps) == 1 or not alone:
                raise
            longest = max(len(p.input_ids) + len(r) for p, r in zip(prompts, responses, strict=True))
            self.token_budget = min(self.token_budget or len(steps) * longest, (len(steps) + 1) // 2 * longest)
            _log.warning(
                "a pass over %d steps did not fit into memory; going on with train.token_budget %d",
                len(steps),
                self.token_budget,
            )
            torch.cuda.empty_cache()
            return None
        return replace(scores, states=self.algorithm.critic_states(scores.states)) if self.critic else scores

    def _episode_log_ratios(self, work: _Work, batch: list[int]) -> dict[int, Tensor] | None:
        """Of each step of a batch, the log-ratio () of all responses of its episode, under the weights as they are."""
        if self.algorithm.ratio_level != "episode":
            return None
        columns, numbers = work.old.tensors.episodes.shape[1], work.old.tensors.episodes.flatten().tolist()
        now = self.scorer.log_probs([work.steps[i] for i in batch])
        totals: dict[tuple[int, int], Tensor] = {}
        for i, row in zip(batch, now, strict=True):
            episode = i % columns, numbers[i]
            totals[episode] = totals.get(episode, torch.zeros(())) + (row - work.old.log_probs[i]).sum()
        return {i: totals[i % columns, numbers[i]] for i in batch}

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
        with self.reference.in_place() if self.reference else self.vlm.adapter_disabled():
            yield self.vlm

    def _batches(self, update: int, epoch: int) -> Iterator[list[int]]:
        """This rank's share of each optimizer step of one epoch, in random order."""
        return minibatches(
            self.config.env.num_envs,
            self.config.rollout.steps,
            self.config.train.batch_size,
            seed=derive_seed(self.config.seed, "minibatches", update, epoch),
            rank=self.runtime.rank,
            ranks=self.runtime.world_size,
            whole=self.algorithm.ratio_level == "episode",
        )

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        """Within it, responses are sampled and nothing is learned; every rank must enter it.

        Sharded weights (ZeRO stage 3) are gathered once for all of them, and not layer by layer for each token, where
        the plan says that they fit.
        """
        if not self.gathers_once:
            yield
            return
        with deepspeed.zero.unwrap_model_for_generation(self.engine):
            self.vlm.gathered = True
            try:
                yield
            finally:
                self.vlm.gathered = False

    def weights(self) -> dict[str, Tensor] | None:
        """The weights of the policy's directory, where they lie in shards; every rank must call it.

        They are collected one by one, so that no device holds more than one of them whole.

        Returns:
            By their names in `vlm.model`, on the host: of rank 0, and none on other ranks. None where nothing is in
            shards.
        """
        if self.config.deepspeed.zero_stage < 3:
            return None
        found = {}
        for name, parameter in self.vlm.model.named_parameters():
            if self.config.model.lora_rank and not parameter.requires_grad:
                continue  # of the base, which an adapter leaves as it is
            with self._whole([parameter]):
                if self.runtime.is_main:
                    found[name] = parameter.detach().to("cpu", copy=True)
        return found

    def _whole(self, parameters: Sequence[torch.nn.Parameter]) -> contextlib.AbstractContextManager[None]:
        """Within it, parameters are whole on every rank; every rank must enter it."""
        sharded = self.config.deepspeed.zero_stage == 3
        return deepspeed.zero.GatheredParameters(parameters) if sharded else contextlib.nullcontext()

    # Checkpoints

    def save(self, directory: Path) -> None:
        """Writes everything that is trained, whole, as safetensors; every rank must call it."""
        learner_state.save(self.engine, directory / "policy", is_main=self.runtime.is_main)
        if self.critic and self.runtime.is_main:
            self.critic.save(directory)

    def load(self, directory: Path) -> None:
        """Reads what `save` wrote, on any number of ranks.

        Raises:
            LearnerStateError: the state is missing, or of other parameters.
        """
        learner_state.load(self.engine, directory / "policy")
        if self.critic:
            self.critic.load(directory)


def numbers(parameters: Iterable[torch.nn.Parameter]) -> int:
    """How many numbers parameters are made of, those in shards of other ranks (ZeRO stage 3) included."""
    return sum(int(getattr(parameter, "ds_numel", parameter.numel())) for parameter in parameters)


def learning_rate(config: Config, update: int) -> float:
    """Cosine from `learning_rate` at the first update to `final_learning_rate` at the last."""
    first, last = config.train.learning_rate, config.train.final_learning_rate
    progress = min(1.0, update / max(1, config.updates - 1))
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * progress))


def deepspeed_config(config: Config, trained_parameters: int, ranks: int) -> dict[str, Any]:
    """The engine's configuration. The optimizer is torch's own, so nothing is compiled at run time."""
    train, settings = config.train, config.deepspeed
    bucket = min(trained_parameters, LARGEST_BUCKET)  # which ZeRO allocates in every backward pass
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
        # One step() ends a batch, however many passes it took; each loss has its share of the batch as weight.
        "managed_gradient_accumulation": False,
        "train_micro_batch_size_per_gpu": train.batch_size // ranks,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": train.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.model.dtype == "bfloat16"},
        **({"data_types": {"grad_accum_dtype": "fp32"}} if settings.zero_stage else {}),  # stage 0 has one type for all
        "steps_per_print": 10**9,
    }


def _require_finite(loss: Tensor, name: str) -> None:
    if not torch.isfinite(loss):
        raise HealthError(f"the {name} is {float(loss.detach())}; lower train.learning_rate or train.max_grad_norm")


def _require_whole_batches(config: Config, algorithm: Algorithm, ranks: int) -> None:
    """Refuses batches that cannot hold all steps of their simulators, where an algorithm needs them to."""
    whole = config.rollout.steps * ranks
    if algorithm.ratio_level == "episode" and config.train.batch_size % whole:
        raise ConfigError(
            f"train.batch_size {config.train.batch_size} must be a multiple of rollout.steps x ranks ({whole}): "
            f"{config.train.algorithm} weighs whole episodes"
        )


class _Means:
    """Running weighted means of named numbers."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.weights: dict[str, float] = {}

    def add(self, name: str, value: Tensor, weight: float = 1.0) -> None:
        value = weight * value.detach().double().cpu()
        self.totals[name] = self.totals.get(name, torch.zeros((), dtype=torch.float64)) + value
        self.weights[name] = self.weights.get(name, 0.0) + weight

    def over_ranks(self, runtime: Runtime) -> dict[str, float]:
        names = sorted(self.totals)
        means = torch.stack([self.totals[name] / self.weights[name] for name in names])
        return dict(zip(names, (runtime.sum(means) / runtime.world_size).tolist(), strict=True))


@dataclass(frozen=True)
class _Work:
    """One update while it is made.

    Attributes:
        steps: of the rollout, in the order (t, n).
        old: what the weights before the update say of them.
        targets: what the update aims at.
        policy_frozen: whether only the critic learns.
        means: metrics so far.
    """

    steps: list[Step]
    old: OldScores
    targets: Targets
    policy_frozen: bool
    means: _Means = field(default_factory=_Means)
