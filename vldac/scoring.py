"""What the weights before an update say of a rollout: log-probabilities, reference log-probabilities, values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from vldac.algorithms.base import Algorithm, RolloutTensors
from vldac.distributed import Runtime
from vldac.models.vlm import VLM, Prompt
from vldac.rollout import Rollout, Step
from vldac.value_head import ValueHead


@dataclass(frozen=True)
class OldScores:
    """Everything an update compares its weights with.

    Attributes:
        log_probs: T*N rows, each (R_i,) float32 on the CPU, under the weights that sampled the rollout.
        sampled: whether they are those of the sampling itself, and were not made again by the learner's forward pass.
        reference_log_probs: the same under the reference policy; empty where no KL penalty is paid.
        tensors: rewards, ends and values, on the CPU.
    """

    log_probs: list[Tensor]
    reference_log_probs: list[Tensor]
    tensors: RolloutTensors
    sampled: bool = False


class Scorer:
    """Scores rollouts in passes of `micro_batch_size` prompts, without gradients.

    Args:
        vlm: the policy.
        algorithm: says which hidden states the critic reads.
        value_head: the critic; None for an algorithm without one.
        reference_policy: a context that yields the reference policy; None where no KL penalty is paid.
        runtime: this rank.
        temperature: of the rollout.
        micro_batch_size: prompts of one forward pass.
        reuse: whether to take log-probabilities and values from the rollout, where the engine has noted all that it
            takes. The learner's first pass shows whether they agree.
    """

    def __init__(
        self,
        vlm: VLM,
        algorithm: Algorithm,
        value_head: ValueHead | None,
        reference_policy: Callable[[], AbstractContextManager[VLM]] | None,
        runtime: Runtime,
        *,
        temperature: float,
        micro_batch_size: int,
        reuse: bool = False,
    ) -> None:
        self.vlm, self.algorithm, self.value_head = vlm, algorithm, value_head
        self.reference_policy, self.runtime = reference_policy, runtime
        self.temperature, self.micro = temperature, micro_batch_size
        # A critic that reads response tokens needs states that no engine notes.
        self.reuse = reuse and type(algorithm).critic_states is Algorithm.critic_states

    @torch.no_grad()
    def score(self, rollout: Rollout, *, on_policy: bool) -> OldScores:
        """Scores every step, and the observations whose value the last step of each simulator is continued with.

        Args:
            rollout: T steps of N simulators.
            on_policy: whether the weights as they are have sampled it.
        """
        steps = [step for row in rollout.steps for step in row]
        known = [step.response.state for step in steps if step.response.state is not None]
        sampled = self.reuse and on_policy and rollout.exact and len(known) == len(steps)
        if self.value_head is not None and not self.value_head.fitted:
            if sampled:
                states = torch.stack(known).to(self.vlm.device)
            else:
                states = torch.cat([self._critic_inputs(part).float() for part in self._parts(steps)])
            self._fit_standardization(self.value_head, states)
        log_probs: list[Tensor] = []
        values: list[Tensor] = []
        if sampled:
            log_probs = [step.response.log_probs for step in steps]
            if self.value_head is not None:
                values = list(self.value_head(torch.stack(known).to(self.vlm.device)).cpu().unbind())
        else:
            for part in self._parts(steps):
                rows, states = self._log_probs(self.vlm, part)
                log_probs += rows
                if self.value_head is not None:
                    values += self._of_steps(self.value_head(self.algorithm.critic_states(states)).cpu(), rows)
        reference: list[Tensor] = []
        if self.reference_policy is not None:
            with self.reference_policy() as policy:
                reference = [row for part in self._parts(steps) for row in self._log_probs(policy, part)[0]]
        return OldScores(log_probs, reference, self._tensors(rollout, values), sampled)

    def _parts(self, steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
        return (steps[start : start + self.micro] for start in range(0, len(steps), self.micro))

    @torch.no_grad()
    def log_probs(self, steps: Sequence[Step]) -> list[Tensor]:
        """Log-probabilities of steps under the policy as it is now, each (R_i,) float32 on the CPU."""
        return [row for part in self._parts(steps) for row in self._log_probs(self.vlm, part)[0]]

    def _log_probs(self, policy: VLM, part: Sequence[Step]) -> tuple[list[Tensor], Tensor]:
        responses = [step.response.token_ids for step in part]
        scores = policy([step.prompt for step in part], responses, self.temperature)
        rows = scores.log_probs.cpu()
        return [row[: len(r)] for row, r in zip(rows, responses, strict=True)], scores.states

    @staticmethod
    def _of_steps(values: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
        """Values (B,) or (B, R) as a tensor a step, without padding."""
        if values.ndim == 1:
            return list(values.unbind())
        return [value[: len(row)] for value, row in zip(values, rows, strict=True)]

    def _tensors(self, rollout: Rollout, values: list[Tensor]) -> RolloutTensors:
        def of(name: str) -> Tensor:
            return torch.tensor([[getattr(step, name) for step in row] for row in rollout.steps])

        lengths = [[len(step.response.token_ids) for step in row] for row in rollout.steps]
        rewards = of("reward")
        next_values = torch.zeros_like(rewards) if self.value_head is None else self._next_values(rollout, values)
        return RolloutTensors(
            rewards=rewards,
            terminated=of("terminated"),
            truncated=of("truncated"),
            lost=of("lost"),
            episodes=of("episode"),
            response_lengths=torch.tensor(lengths),
            values=values,
            next_values=next_values,
        )

    def _next_values(self, rollout: Rollout, values: list[Tensor]) -> Tensor:
        """The value of what followed each step, (T, N): of the next prompt, or of the last one of a cut episode."""
        first = torch.stack([value if not value.ndim else value[0] for value in values]).view(len(rollout.steps), -1)
        filler = rollout.steps[0][0].prompt
        next_values = torch.cat([first[1:], self._values(rollout.last_prompts, filler).view(1, -1)])
        cut = [
            ((t, n), step.final_prompt)
            for t, row in enumerate(rollout.steps)
            for n, step in enumerate(row)
            if step.final_prompt is not None
        ]
        for (where, _), value in zip(cut, self._values([prompt for _, prompt in cut], filler), strict=True):
            next_values[where] = value
        return next_values

    def _values(self, prompts: Sequence[Prompt], filler: Prompt) -> Tensor:
        """Values (B,) of prompts that have no response, on the CPU.

        Every rank makes as many forward passes as the one with the most prompts: under ZeRO stage 3 a pass of one
        rank waits for the weights that the others hold.
        """
        assert self.value_head is not None
        passes = int(self.runtime.max(math.ceil(len(prompts) / self.micro)))
        values = []
        for number in range(passes):
            part = prompts[number * self.micro : (number + 1) * self.micro]
            states = self.vlm.states(part or [filler])
            values.append(self.value_head(states).cpu()[: len(part)])
        return torch.cat(values) if values else torch.zeros(0)

    def _fit_standardization(self, value_head: ValueHead, states: Tensor) -> None:
        states = states.float()
        count = self.runtime.sum(torch.tensor(float(len(states))))
        mean = self.runtime.sum(states.sum(0)) / count
        variance = self.runtime.sum((states - mean).square().sum(0)) / count
        value_head.fit_standardization(mean, variance)

    def _critic_inputs(self, part: Sequence[Step]) -> Tensor:
        """Hidden states (M, H) as the critic reads them: at the last token of prompts, or at all response tokens."""
        prompts = [step.prompt for step in part]
        if not self.algorithm.critic_reads_tokens:
            return self.vlm.states(prompts)
        scores = self.vlm(prompts, [step.response.token_ids for step in part], self.temperature)
        return self.algorithm.critic_states(scores.states)[scores.mask]
