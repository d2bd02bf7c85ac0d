"""What the weights before an update say of a rollout: log-probabilities, reference log-probabilities, values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from vldac.models.vlm import VLM, Prompt
from vldac.objectives import StepTensors
from vldac.rollout import Rollout, Step
from vldac.runtime import Runtime
from vldac.value_head import ValueHead


@dataclass(frozen=True)
class OldScores:
    """Everything an update compares its weights with.

    Attributes:
        log_probs: T*N rows, each (R_i,) float32 on the CPU, under the weights that sampled the rollout.
        reference_log_probs: the same under the reference policy; empty where no KL penalty is paid.
        tensors: rewards, values and ends, each (T, N), on the CPU.
    """

    log_probs: list[Tensor]
    reference_log_probs: list[Tensor]
    tensors: StepTensors


class Scorer:
    """Scores rollouts in passes of `micro_batch_size` prompts, without gradients.

    Args:
        vlm: the policy.
        value_head: the critic.
        reference_policy: a context that yields the reference policy; None where no KL penalty is paid.
        runtime: this rank.
        temperature: of the rollout.
        micro_batch_size: prompts of one forward pass.
    """

    def __init__(
        self,
        vlm: VLM,
        value_head: ValueHead,
        reference_policy: Callable[[], AbstractContextManager[VLM]] | None,
        runtime: Runtime,
        *,
        temperature: float,
        micro_batch_size: int,
    ) -> None:
        self.vlm, self.value_head, self.reference_policy, self.runtime = vlm, value_head, reference_policy, runtime
        self.temperature, self.micro = temperature, micro_batch_size

    @torch.no_grad()
    def score(self, rollout: Rollout) -> OldScores:
        """Scores every step, and the observations whose value the last step of each simulator is continued with."""
        steps = [step for row in rollout.steps for step in row]
        if not self.value_head.fitted:
            self._fit_standardisation([step.prompt for step in steps])
        log_probs, reference, values = [], [], []
        for start in range(0, len(steps), self.micro):
            part = steps[start : start + self.micro]
            rows, states = self._log_probs(self.vlm, part)
            log_probs += rows
            values.append(self.value_head(states).cpu())
            if self.reference_policy is not None:
                with self.reference_policy() as policy:
                    reference += self._log_probs(policy, part)[0]
        return OldScores(log_probs, reference, self._step_tensors(rollout, torch.cat(values)))

    def _log_probs(self, policy: VLM, part: Sequence[Step]) -> tuple[list[Tensor], Tensor]:
        responses = [step.response.token_ids for step in part]
        scores = policy([step.prompt for step in part], responses, self.temperature)
        rows = scores.log_probs.cpu()
        return [row[: len(r)] for row, r in zip(rows, responses, strict=True)], scores.states

    def _step_tensors(self, rollout: Rollout, flat_values: Tensor) -> StepTensors:
        values = flat_values.view(len(rollout.steps), -1)
        filler = rollout.steps[0][0].prompt
        next_values = torch.cat([values[1:], self._values(rollout.last_prompts, filler).view(1, -1)])
        cut = [
            ((t, n), step.final_prompt)
            for t, row in enumerate(rollout.steps)
            for n, step in enumerate(row)
            if step.final_prompt is not None
        ]
        for (where, _), value in zip(cut, self._values([prompt for _, prompt in cut], filler), strict=True):
            next_values[where] = value
        return StepTensors(
            rewards=torch.tensor([[step.reward for step in row] for row in rollout.steps]),
            values=values,
            next_values=next_values,
            terminated=torch.tensor([[step.terminated for step in row] for row in rollout.steps]),
            truncated=torch.tensor([[step.truncated for step in row] for row in rollout.steps]),
        )

    def _values(self, prompts: Sequence[Prompt], filler: Prompt) -> Tensor:
        """Values (B,) on the CPU.

        Every rank makes as many forward passes as the one with the most prompts: under ZeRO stage 3 a pass of one
        rank waits for the weights that the others hold.
        """
        passes = int(self.runtime.max(math.ceil(len(prompts) / self.micro)))
        values = []
        for number in range(passes):
            part = prompts[number * self.micro : (number + 1) * self.micro]
            states = self.vlm.states(part or [filler])
            values.append(self.value_head(states).cpu()[: len(part)])
        return torch.cat(values) if values else torch.zeros(0)

    def _fit_standardisation(self, prompts: Sequence[Prompt]) -> None:
        parts = [prompts[i : i + self.micro] for i in range(0, len(prompts), self.micro)]
        states = torch.cat([self.vlm.states(part).float() for part in parts])
        count = self.runtime.sum(torch.tensor(float(len(states))))
        mean = self.runtime.sum(states.sum(0)) / count
        variance = self.runtime.sum((states - mean).square().sum(0)) / count
        self.value_head.fit_standardisation(mean, variance)
