"""Collecting experience: N simulators, batched generation, one record a step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from envs.base import Observation
from vldac.acting import Actor, Decision
from vldac.models.picture_cache import PictureCache
from vldac.models.vlm import Prompt, Response
from vldac.utils.seeding import derive_seed


class Simulators(Protocol):
    """N simulators, stepped group by group (`envs.vector.VectorEnv`)."""

    @property
    def groups(self) -> Sequence[range]:
        """The simulators of each group, by number: all of them, in order."""
        ...

    @property
    def episode_numbers(self) -> Sequence[int]:
        """Which episode each simulator is in, counted over the run."""
        ...

    @property
    def episode_lengths(self) -> Sequence[int]:
        """Steps that the running episode of each simulator has taken."""
        ...

    def begin(self, numbers: Sequence[int]) -> list[Observation | None]:
        """Begins the episode of this number in each simulator; what it shows first."""
        ...

    def reset(self) -> list[Observation | None]:
        """The first observation of every simulator."""
        ...

    def step_async(self, actions: Sequence[str | None], group: int, answers: Sequence[str] | None = None) -> None:
        """Begins a step of every simulator of a group; None stands for an action that could not be read."""
        ...

    def step_wait(self, group: int) -> Any:
        """The step that was begun, of the group's simulators (`envs.vector.VectorStep`)."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> list[Observation | None]:
        """Restores every simulator and returns its current observation."""
        ...


@dataclass(frozen=True)
class Step:
    """One environment step of one simulator.

    Attributes:
        prompt: what the model was shown.
        response: what it wrote.
        reward: of the action that the response named, or the environment's penalty if it named none.
        terminated: the task ended.
        truncated: the time ran out, or the simulator was lost.
        final_prompt: the last observation of an episode that ended by truncation, whose value is still to come.
        episode: which episode of its simulator this is, counted over the run.
        lost: the episode was lost here with its simulator, which is not of the policy's doing.
    """

    prompt: Prompt
    response: Response
    reward: float
    terminated: bool
    truncated: bool
    final_prompt: Prompt | None = None
    episode: int = 0
    lost: bool = False


@dataclass
class Rollout:
    """T steps of N simulators.

    Attributes:
        steps: T lists of N steps.
        last_prompts: the N observations that follow the last step.
        episodes: `info` of each episode that ended, in order, with the step it `ended_at`; lost ones left out.
        invalid: steps whose response named no legal action.
        truncated: steps whose response was cut off at its length limit.
        lost: episodes that were lost with their worker.
        version: updates that the weights had seen which sampled it; None where that is not known.
        exact: whether the learner's own network sampled it (`vldac.engines.base.Engine`).
        seconds: time spent waiting for a "simulator", and in "generation" (encoding and decoding included).
    """

    steps: list[list[Step]] = field(default_factory=list)
    last_prompts: list[Prompt] = field(default_factory=list)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    invalid: int = 0
    truncated: int = 0
    lost: int = 0
    version: int | None = None
    exact: bool = True
    seconds: dict[str, float] = field(default_factory=lambda: {"simulator": 0.0, "generation": 0.0})


class Collector:
    """Plays N simulators with the current policy, over and over from where they stand.

    While the simulators of one group take their step, the policy answers those of the next (double-buffered sampling,
    Petrenko et al. 2020, arXiv 2006.11751). A single group is waited for.

    Args:
        actor: the policy.
        simulators: N simulators; `start` or `resume` must be called before `collect`.
        seed: of all sampling. A response is drawn by this seed, the number of its simulator over all ranks, its episode
            and its step in that episode, so that it does not depend on how simulators are dealt to ranks.
        first: the number of this rank's first simulator.
        group_size: K neighboring simulators whose episodes of one number start alike.
        whole_episodes: every rollout begins with new episodes, of one number in each group.
    """

    def __init__(
        self,
        actor: Actor,
        simulators: Simulators,
        *,
        seed: int = 0,
        first: int = 0,
        group_size: int = 1,
        whole_episodes: bool = False,
    ) -> None:
        self.actor, self.simulators, self.seed, self.first = actor, simulators, seed, first
        self.group_size, self.whole_episodes = group_size, whole_episodes
        self.observations: list[Observation | None] = []
        self._pictures: PictureCache | None = None

    def start(self) -> None:
        """Resets every simulator."""
        self.observations = self.simulators.reset()

    def resume(self, state: dict[str, Any]) -> None:
        """Puts the simulators back where `state` (their own `state_dict`) was taken."""
        self.observations = self.simulators.load_state_dict(state)

    def collect(self, steps: int, version: int | None = None) -> Rollout:
        """Takes `steps` environment steps in every simulator.

        Args:
            steps: T.
            version: updates that the actor's weights have seen.
        """
        rollout = Rollout(version=version, exact=self.actor.engine.exact)
        clock = _Clock(rollout.seconds)
        if self.whole_episodes and (any(self.simulators.episode_numbers) or any(self.simulators.episode_lengths)):
            self.observations = self.simulators.begin(self._next_episodes())
            clock.lap("simulator")
        self._pictures = self._picture_cache()
        acted: dict[int, tuple[Sequence[Decision], Sequence[int]]] = {}  # of a group whose step is under way
        for number in range(steps + 1):
            for group, members in enumerate(self.simulators.groups):
                if number:
                    result = self.simulators.step_wait(group)
                    clock.lap("simulator")
                    self.observations[members.start : members.stop] = result.observations
                    self._take(rollout, number - 1, *acted.pop(group), result)
                if number < steps:
                    acted[group] = self._act(group)
                clock.lap("generation")
        rollout.last_prompts = self._encode(self.observations)
        self._pictures = None  # its memory is the learner's now
        clock.lap("generation")
        return rollout

    def _act(self, group: int) -> tuple[Sequence[Decision], Sequence[int]]:
        """Begins a step of a group: what the policy decided, and the episode of each simulator."""
        members = self.simulators.groups[group]
        numbers, lengths = self.simulators.episode_numbers, self.simulators.episode_lengths
        seeds = [derive_seed(self.seed, self.first + i, numbers[i], lengths[i]) for i in members]
        decisions = self.actor.answer(self._encode([self.observations[i] for i in members]), seeds)
        self.simulators.step_async([each.action for each in decisions], group, [each.text for each in decisions])
        return decisions, [numbers[i] for i in members]

    def _take(
        self, rollout: Rollout, number: int, decisions: Sequence[Decision], episodes: Sequence[int], result: Any
    ) -> None:
        """Adds what the simulators of a group made of their decisions to step `number` of a rollout."""
        if number == len(rollout.steps):
            rollout.steps.append([])
        rollout.steps[number] += self._records(decisions, episodes, result)
        rollout.truncated += sum(decision.truncated for decision in decisions)
        self._count(rollout, result, number)

    def _next_episodes(self) -> list[int]:
        """The first episode that no simulator of a group has begun, for each simulator."""
        numbers = self.simulators.episode_numbers
        groups = [numbers[i : i + self.group_size] for i in range(0, len(numbers), self.group_size)]
        return [max(group) + 1 for group in groups for _ in group]

    def _encode(self, observations: Sequence[Observation | None]) -> list[Prompt]:
        shown = [o for o in observations if o is not None]
        assert len(shown) == len(observations), "training seeds never run out"
        return self.actor.vlm.encode_frames(self.actor.encode(shown, self._pictures))

    def _picture_cache(self) -> PictureCache | None:
        """For observations of several frames, all but the oldest of which are part of the next one too.

        It holds what all simulators show at once, and a frame more of each: the last one of an episode that is cut.
        """
        frames = [len(o["frames"]) for o in self.observations if o is not None]
        return PictureCache(self.actor.vlm.family, sum(frames) + len(frames)) if max(frames) > 1 else None

    def _records(self, decisions: Sequence[Decision], episodes: Sequence[int], result: Any) -> list[Step]:
        cut = [i for i in range(len(decisions)) if result.truncated[i] and not result.terminated[i]]
        finals = dict(zip(cut, self._encode([result.final_observations[i] for i in cut]), strict=True)) if cut else {}
        return [
            Step(
                decision.prompt,
                decision.response,
                reward=float(result.rewards[i]),
                terminated=bool(result.terminated[i]),
                truncated=i in finals,
                final_prompt=finals.get(i),
                episode=episodes[i],
                lost=bool(result.infos[i].get("lost", False)),
            )
            for i, decision in enumerate(decisions)
        ]

    @staticmethod
    def _count(rollout: Rollout, result: Any, number: int) -> None:
        for info in result.infos:
            rollout.invalid += bool(info.get("invalid", False))
            if info.get("lost", False):
                rollout.lost += 1
            elif "episode_return" in info:
                rollout.episodes.append({**info, "ended_at": number})


class _Clock:
    """Adds the time since its last lap to a named total."""

    def __init__(self, totals: dict[str, float]) -> None:
        self.totals, self.last = totals, time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.totals[name] += now - self.last
        self.last = now
