"""What the weights before an update say of a rollout: log-probabilities, reference log-probabilities, values."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vldac.algorithms.base import Algorithm, RolloutTensors
from vldac.distributed import Runtime
from vldac.models.vlm import VLM, Prompt, Scores
from vldac.rollout import Rollout, Step
from vldac.value_head import ValueHead

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OldScores:
    """Everything an update compares its weights with.

    Attributes:
        log_probs: T*N rows, each (R_i,) float32 on the CPU, under the weights that sampled the rollout.
        sampled: whether they are those of the sampling itself, and were not made again by the learner's forward pass.
        reference_log_probs: the same under the reference policy; empty where no KL penalty is paid, or the policy is
            still the reference.
        tensors: rewards, ends and values, on the CPU.
        kept: of a policy that is not trained in this update, what its forward passes have said so far.
    """

    log_probs: list[Tensor]
    reference_log_probs: list[Tensor]
    tensors: RolloutTensors
    sampled: bool = False
    kept: KeptScores | None = None


class KeptScores:
    """What a policy has said of steps, on the CPU: one whose weights stay as they are is asked once.

    Args:
        reads_tokens: whether the critic reads response tokens (`Algorithm.critic_reads_tokens`).
    """

    def __init__(self, *, reads_tokens: bool) -> None:
        self.reads_tokens = reads_tokens
        self._rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def add(self, numbers: Sequence[int], scores: Scores) -> None:
        """Keeps the scores of B steps, with entropies.

        Args:
            numbers: of the steps.
            scores: `states` being those that the critic reads (`Algorithm.critic_states`).
        """
        assert scores.entropies is not None
        lengths = scores.mask.sum(1).tolist()
        columns = (each.cpu() for each in (scores.log_probs, scores.entropies, scores.states))
        for i, length, log_probs, entropies, states in zip(numbers, lengths, *columns, strict=True):
            of_critic = states[:length] if self.reads_tokens else states
            # Copies: a part of a tensor would keep all of it in memory.
            self._rows[i] = log_probs[:length].clone(), entropies[:length].clone(), of_critic.clone()

    def of(self, numbers: Sequence[int], device: torch.device) -> Scores:
        """The scores of steps that are kept, as one batch."""
        rows = [self._rows[i] for i in numbers]
        log_probs, entropies, states = ([row[column] for row in rows] for column in range(3))
        lengths = torch.tensor([len(row) for row in log_probs])
        return Scores(
            log_probs=pad_sequence(log_probs, batch_first=True).to(device),
            mask=(torch.arange(int(lengths.max())) < lengths[:, None]).to(device),
            states=(pad_sequence(states, batch_first=True) if self.reads_tokens else torch.stack(states)).to(device),
            entropies=pad_sequence(entropies, batch_first=True).to(device),
        )


class Scorer:
    """Scores rollouts in passes of at most `micro_batch_size` prompts and `token_budget` tokens, without gradients.

    A pass that does not fit into memory is halved, unless other ranks take part in it.

    Args:
        vlm: the policy.
        algorithm: says which hidden states the critic reads.
        value_head: the critic; None for an algorithm without one.
        reference_policy: a context that yields the reference policy; None where no KL penalty is paid.
        runtime: this rank.
        temperature: of the rollout.
        micro_batch_size: prompts of one forward pass, at most.
        token_budget: tokens of one forward pass, at most, padding included; None for no such limit.
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
        token_budget: int | None = None,
        reuse: bool = False,
    ) -> None:
        self.vlm, self.algorithm, self.value_head = vlm, algorithm, value_head
        self.reference_policy, self.runtime = reference_policy, runtime
        self.temperature, self.micro, self.token_budget = temperature, micro_batch_size, token_budget
        #: Tokens of one pass, where memory has run out on this rank.
        self.lowered: int | None = None
        # A critic that reads response tokens needs states that no engine notes.
        self.reuse = reuse and type(algorithm).critic_states is Algorithm.critic_states

    @torch.no_grad()
    def score(self, rollout: Rollout, *, on_policy: bool, policy_frozen: bool = False) -> OldScores:
        """Scores every step, and the observations whose value the last step of each simulator is continued with.

        Args:
            rollout: T steps of N simulators.
            on_policy: whether the weights as they are have sampled it.
            policy_frozen: whether only the critic learns from it, of a policy that has not been trained yet, which is
                its own reference.
        """
        steps = [step for row in rollout.steps for step in row]
        known = [step.response.state for step in steps if step.response.state is not None]
        sampled = self.reuse and on_policy and rollout.exact and len(known) == len(steps)
        kept = KeptScores(reads_tokens=self.algorithm.critic_reads_tokens) if policy_frozen else None
        log_probs: list[Tensor] = []
        states: list[Tensor] = []  # that the critic reads, on the CPU, those of each pass together
        if sampled:
            log_probs, states = [step.response.log_probs for step in steps], [torch.stack(known)]
        else:
            for part, rows, found in self._passes(self.vlm, steps, entropies=policy_frozen):
                scores = found
                if self.value_head is not None:
                    scores = replace(found, states=self.algorithm.critic_states(found.states))
                    states.append(scores.states.to("cpu", copy=True))  # of the others, none is kept in memory
                if kept is not None:
                    kept.add(range(len(log_probs), len(log_probs) + len(part)), scores)
                log_probs += rows
        values = [] if self.value_head is None else self._values_of_steps(self.value_head, states, log_probs)
        reference: list[Tensor] = []
        if self.reference_policy is not None and not policy_frozen:
            with self.reference_policy() as policy:
                reference = [row for _, rows, _ in self._passes(policy, steps) for row in rows]
        return OldScores(log_probs, reference, self._tensors(rollout, values), sampled, kept)

    def _values_of_steps(
        self, value_head: ValueHead, states: Sequence[Tensor], log_probs: Sequence[Tensor]
    ) -> list[Tensor]:
        """Values of all steps, () or (R_i,); the first states that are seen standardize the head's input."""
        if not value_head.fitted:
            rows = self._of_steps([row for part in states for row in part], log_probs)
            self._fit_standardization(value_head, torch.cat([row.view(-1, row.shape[-1]) for row in rows]))
        return self._of_steps([row for part in states for row in value_head(part.to(self.vlm.device)).cpu()], log_probs)

    @torch.no_grad()
    def log_probs(self, steps: Sequence[Step]) -> list[Tensor]:
        """Log-probabilities of steps under the policy as it is now, each (R_i,) float32 on the CPU."""
        return [row for _, rows, _ in self._passes(self.vlm, steps) for row in rows]

    def _passes(
        self, policy: VLM, steps: Sequence[Step], *, entropies: bool = False
    ) -> Iterator[tuple[Sequence[Step], list[Tensor], Scores]]:
        """The forward passes over all steps, in their order: which they are of, log-probabilities, and scores."""
        longest = max(len(step.prompt.input_ids) + len(step.response.token_ids) for step in steps)
        size, first = self._size(longest), 0
        while first < len(steps):
            part = steps[first : first + size]
            try:
                rows, scores = self._log_probs(policy, part, entropies=entropies)
            except torch.OutOfMemoryError:
                if len(part) == 1 or self.vlm.lockstep:
                    raise
                size = (len(part) + 1) // 2
                self.lowered = size * longest
                log.warning("scoring %d steps at once did not fit into memory; going on with %d", len(part), size)
                torch.cuda.empty_cache()
            else:
                first += len(part)
                yield part, rows, scores

    def _size(self, longest: int) -> int:
        """Prompts of one pass, of which the longest has so many tokens.

        Alike on every rank but where memory has run out; whether ranks ask each other depends on the parameters alone.
        """
        size = self.micro
        if self.token_budget is not None:
            size = min(size, self.token_budget // int(self.runtime.max(longest)))
        if self.lowered is not None:
            size = min(size, self.lowered // longest)
        return max(1, size)

    def _log_probs(self, policy: VLM, part: Sequence[Step], *, entropies: bool = False) -> tuple[list[Tensor], Scores]:
        responses = [step.response.token_ids for step in part]
        scores = policy([step.prompt for step in part], responses, self.temperature, entropies=entropies)
        rows = scores.log_probs.cpu()
        return [row[: len(r)] for row, r in zip(rows, responses, strict=True)], scores

    def _of_steps(self, padded: Sequence[Tensor], log_probs: Sequence[Tensor]) -> list[Tensor]:
        """What a critic reads or says at each step: without padding, if it does so at each response token."""
        if not self.algorithm.critic_reads_tokens:
            return list(padded)
        return [each[: len(row)] for each, row in zip(padded, log_probs, strict=True)]

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
        size = self._size(max(len(prompt.input_ids) for prompt in (*prompts, filler)))
        passes = int(self.runtime.max(math.ceil(len(prompts) / size)))
        values = []
        for number in range(passes):
            part = prompts[number * size : (number + 1) * size]
            states = self.vlm.states(part or [filler])
            values.append(self.value_head(states).cpu()[: len(part)])
        return torch.cat(values) if values else torch.zeros(0)

    def _fit_standardization(self, value_head: ValueHead, states: Tensor) -> None:
        states = states.to(self.vlm.device).float()
        count = self.runtime.sum(torch.tensor(float(len(states))))
        mean = self.runtime.sum(states.sum(0)) / count
        variance = self.runtime.sum((states - mean).square().sum(0)) / count
        value_head.fit_standardization(mean, variance)
