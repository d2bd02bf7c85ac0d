"""Many simulators in a few worker processes, stepped together.

A simulator that crashes or hangs costs its worker's running episodes and nothing else: the worker is replaced and its
simulators continue with their next episodes.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from envs import registry
from envs.base import Exchange, Observation, SimulatorError
from envs.seeds import EpisodeSeeds, evaluation_seeds, training_seeds
from envs.vector.frames import anonymous_memory, map_frames
from envs.vector.process import WorkerLost, WorkerProcess
from envs.vector.step import Episode, VectorStep

__all__ = ["EpisodeSeeds", "VectorEnv", "VectorStep", "evaluation_seeds", "training_seeds"]

_log = logging.getLogger(__name__)

#: Seconds that a worker may take to start its interpreter and simulators and to begin or replay their episodes.
START_DEADLINE = 300.0
#: A worker that fails this often without one completed step between is given up.
_ATTEMPTS = 3

#: Of a worker to one step: an answer of each simulator, why there is none, or None where there is nothing to run.
_Reply = list[dict[str, Any]] | WorkerLost | None


@dataclass(frozen=True)
class _Asked:
    """A step that some workers have been asked for: what their simulators are to do, by number, and until when."""

    workers: Sequence[int]
    choices: Mapping[int, _Choice]
    deadline: float


class _Choice(NamedTuple):
    """An action, and the answer in which it was written."""

    action: str | None
    answer: str


class VectorEnv:
    """N simulators of one environment in W worker processes, with same-step autoreset.

    Where an episode ends, the simulator begins its next one in the same step, so that `observations` always is what
    to act on. A simulator whose seeds have run out stops: its observation is None and its actions are ignored.

    With several groups, one can be stepped (`step_async`, `step_wait`) while somebody chooses the actions of another.

    Args:
        env_id: see `envs.registry.make`.
        num_envs: N, at least 1.
        num_workers: W, 1 to N; the simulators are dealt to them in blocks.
        seeds: gives the seed of every episode; it is asked again for an episode that is restored, so it must always
            answer the same. See `training_seeds` and `evaluation_seeds`.
        step_deadline: seconds that a worker may take for one step of all its simulators, resets included.
        groups: G, 1 to W; the workers are dealt to them in blocks.
        history: exchanges that observations hold at most, the last of their episode; `step` then takes answers too.
        **make_options: of `envs.registry.make`.

    Attributes:
        groups: the simulators of each group, by number.

    Raises:
        ValueError: an argument is out of range or no environment has this id.
        SimulatorError: a worker fails at every attempt to start it, or to complete a single step.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        *,
        num_workers: int,
        seeds: EpisodeSeeds,
        step_deadline: float = 60.0,
        groups: int = 1,
        history: int = 0,
        **make_options: Any,
    ) -> None:
        if not 1 <= num_workers <= num_envs:
            raise ValueError(f"num_workers is {num_workers}; it must be from 1 to the number of simulators, {num_envs}")
        if step_deadline <= 0:
            raise ValueError(f"step_deadline is {step_deadline}; it must be more than 0 seconds")
        if not 1 <= groups <= num_workers:
            raise ValueError(f"groups is {groups}; it must be from 1 to the number of workers, {num_workers}")
        if history < 0:
            raise ValueError(f"history is {history}; it must be 0 or more")
        registry.spec(env_id)
        self.env_id, self.num_envs, self.step_deadline = env_id, num_envs, step_deadline
        self._make_options, self._seeds, self._history = make_options, seeds, history
        self._blocks = [[int(i) for i in block] for block in np.array_split(np.arange(num_envs), num_workers)]
        self._groups = [[int(i) for i in workers] for workers in np.array_split(np.arange(num_workers), groups)]
        self.groups = [range(self._blocks[own[0]][0], self._blocks[own[-1]][-1] + 1) for own in self._groups]
        self._asked: dict[int, _Asked] = {}  # of a group
        self._episodes = [Episode() for _ in range(num_envs)]
        self._observations: list[Observation | None] = [None] * num_envs
        #: What each simulator accepts now, see `Env.action_names`; empty for one that has stopped.
        self.action_names: list[tuple[str, ...]] = [()] * num_envs
        self._failures = [0] * num_workers  # of each worker, since its last completed step
        self._memory = anonymous_memory()
        self._workers: list[WorkerProcess] = []
        self._finalizer = weakref.finalize(self, _close, self._workers, self._memory)
        self.frames_shape: tuple[int, ...] = ()  # (K, H, W, 3) of every observation
        try:
            self._workers.extend(self._spawn(number) for number in range(num_workers))
            self._each_worker(self._receive_shape)
            os.ftruncate(self._memory, 2 * num_envs * int(np.prod(self.frames_shape)))
        except BaseException:
            self.close()
            raise
        self._frames = map_frames(self._memory, num_envs, self.frames_shape)

    @property
    def episode_numbers(self) -> list[int]:
        """Which episode each simulator is in, counted from 0; -1 before the first `reset`."""
        return [episode.index for episode in self._episodes]

    @property
    def episode_seeds(self) -> list[int | None]:
        """The seed of each simulator's episode; None for one that has stopped."""
        return [episode.seed for episode in self._episodes]

    @property
    def episode_lengths(self) -> list[int]:
        """Steps that the running episode of each simulator has taken."""
        return [len(episode.actions) for episode in self._episodes]

    def reset(self) -> list[Observation | None]:
        """Begins episode 0 of every simulator, whatever is running.

        Returns:
            What each simulator shows; None for one without a single seed.
        """
        return self.begin([0] * self.num_envs)

    def begin(self, numbers: Sequence[int]) -> list[Observation | None]:
        """Begins an episode in every simulator, whatever is running.

        Args:
            numbers: N, which episode of each simulator.

        Returns:
            What each simulator shows; None for one without a seed for this episode.
        """
        self._require_idle()
        for index, number in enumerate(numbers):
            self._episodes[index] = Episode(number, self._seeds(index, number))
        self._start_all()
        return list(self._observations)

    def step(self, actions: Sequence[str | None], answers: Sequence[str] | None = None) -> VectorStep:
        """Takes one step in every simulator.

        Args:
            actions: N texts, parsed by the environments; None, or a text that names no legal action, costs the
                environment's penalty.
            answers: N texts in which the actions were written, for the `history` of later observations.

        Raises:
            ValueError: there are not N actions, or there is history and there are not N answers.
            RuntimeError: `reset` has not been called, a step is under way, or the pool is closed.
            SimulatorError: a worker fails again and again.
        """
        choices = self._choices(range(self.num_envs), actions, answers)
        self._require_idle()
        self._require_begun()
        return self._receive(self._ask(range(len(self._workers)), choices))

    def step_async(self, actions: Sequence[str | None], group: int, answers: Sequence[str] | None = None) -> None:
        """Has the simulators of a group take a step, without waiting for it; `step_wait` does.

        Args:
            actions: of the simulators of the group; see `step`.
            group: number of the group.
            answers: of the simulators of the group; see `step`.

        Raises:
            ValueError: there are not as many actions as simulators, or there is history and not as many answers.
            RuntimeError: `reset` has not been called, a step of the group is under way, or the pool is closed.
        """
        choices = self._choices(self.groups[group], actions, answers)
        self._require_open()
        self._require_begun()
        if group in self._asked:
            raise RuntimeError("a step of this group is under way: call step_wait first")
        self._asked[group] = self._ask(self._groups[group], choices)

    def step_wait(self, group: int) -> VectorStep:
        """Waits for the step that a group was sent; the deadline counts from then.

        Returns:
            Of the simulators of the group.

        Raises:
            RuntimeError: no step of the group is under way, or the pool is closed.
            SimulatorError: a worker fails again and again.
        """
        self._require_open()
        if group not in self._asked:
            raise RuntimeError("call step_async before step_wait")
        return self._receive(self._asked.pop(group))[self.groups[group].start : self.groups[group].stop]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the running episodes are determined by, as JSON values."""
        return {"env_id": self.env_id, "episodes": [dict(vars(e), actions=list(e.actions)) for e in self._episodes]}

    def load_state_dict(self, state: dict[str, Any]) -> list[Observation | None]:
        """Restores running episodes by replaying them from their seeds.

        Returns:
            What each simulator shows, equal to what it showed when the state was taken.

        Raises:
            ValueError: the state is of another environment or number of simulators.
            SimulatorError: an episode cannot be replayed.
        """
        self._require_idle()
        if state["env_id"] != self.env_id or len(state["episodes"]) != self.num_envs:
            raise ValueError(
                f"the state is of {len(state['episodes'])} simulators of {state['env_id']}, not of {self.num_envs} of "
                f"{self.env_id}"
            )
        self._episodes = [
            Episode(
                e["index"],
                e["seed"],
                list(e["actions"]),
                float(e["total"]),
                [Exchange(*texts) for texts in e.get("history", ())],
            )
            for e in state["episodes"]
        ]
        self._start_all()
        return list(self._observations)

    def close(self) -> None:
        """Ends the workers; closing twice is allowed."""
        self._finalizer()

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _choices(
        self, simulators: range, actions: Sequence[str | None], answers: Sequence[str] | None
    ) -> dict[int, _Choice]:
        """What simulators are to do, by number."""
        if len(actions) != len(simulators):
            raise ValueError(f"{len(actions)} actions for {len(simulators)} simulators")
        if not self._history:
            answers = [""] * len(actions)
        elif answers is None or len(answers) != len(actions):
            raise ValueError(f"{len(answers or ())} answers for {len(actions)} actions, and observations hold history")
        return {i: _Choice(*choice) for i, choice in zip(simulators, zip(actions, answers, strict=True), strict=True)}

    def _ask(self, workers: Sequence[int], choices: Mapping[int, _Choice]) -> _Asked:
        """Sends a step to each of `workers` that has something to run."""
        try:
            for number in workers:
                if block := self._running(number):
                    step = [(i, choices[i].action, self._seeds(i, self._episodes[i].index + 1)) for i in block]
                    self._workers[number].send("step", step)
        except BaseException:  # Ctrl-C too: answers that nobody reads would be taken for those of the next step
            self.close()
            raise
        return _Asked(workers, choices, time.monotonic() + self.step_deadline)

    def _receive(self, asked: _Asked) -> VectorStep:
        """The step that workers were asked for, with N entries; those of simulators of other workers are of no use."""
        try:
            replies = {number: self._reply(number, asked.deadline) for number in asked.workers}
            step = self._record(asked.choices, replies)
            for number, reply in replies.items():
                if isinstance(reply, WorkerLost):
                    self._replace(number, reply, "their episodes are lost")
        except BaseException:  # as above
            self.close()
            raise
        step.observations[:] = self._observations
        return step

    def _reply(self, number: int, deadline: float) -> _Reply:
        """A worker's answer to one step, or why there is none; None of a worker that has nothing to run."""
        try:
            return self._workers[number].receive(deadline) if self._running(number) else None
        except WorkerLost as error:
            return error

    def _record(self, choices: Mapping[int, _Choice], replies: Mapping[int, _Reply]) -> VectorStep:
        """Takes over what the workers answered."""
        step = VectorStep(
            observations=[None] * self.num_envs,
            rewards=np.zeros(self.num_envs),
            terminated=np.zeros(self.num_envs, bool),
            truncated=np.zeros(self.num_envs, bool),
            final_observations=[None] * self.num_envs,
            infos=[{} for _ in range(self.num_envs)],
        )
        for number, reply in replies.items():
            if reply is None:
                continue
            if isinstance(reply, WorkerLost):
                for i in self._running(number):
                    step.truncated[i] = True
                    step.final_observations[i] = self._observations[i]
                    step.infos[i]["invalid"] = False
                    self._finish(i, step, success=False, lost=True)
                continue
            self._failures[number] = 0
            for i, answer in zip(self._running(number), reply, strict=True):
                self._record_one(i, choices[i], answer, step)
        return step

    def _record_one(self, i: int, choice: _Choice, answer: dict[str, Any], step: VectorStep) -> None:
        episode, shown = self._episodes[i], self._observations[i]
        assert shown is not None
        episode.actions.append(choice.action)
        episode.remember(Exchange(shown["prompt"], choice.answer), self._history)
        episode.total += answer["unscaled_reward"]
        step.rewards[i] = answer["reward"]
        step.terminated[i], step.truncated[i] = answer["terminated"], answer["truncated"]
        step.infos[i]["invalid"] = answer["invalid"]
        if answer["terminated"] or answer["truncated"]:
            step.final_observations[i] = self._read(1, i, answer["final_prompt"])
            if answer["task"] is not None:
                step.infos[i]["task"] = answer["task"]
            self._finish(i, step, success=answer["success"], lost=False)
        self._take_over(i, answer["next"])

    def _finish(self, i: int, step: VectorStep, *, success: bool, lost: bool) -> None:
        """Notes the end of an episode and moves on to the next one."""
        episode = self._episodes[i]
        step.infos[i].update(
            success=success,
            lost=lost,
            episode_return=episode.total,
            episode_length=len(episode.actions),
            episode_seed=episode.seed,
        )
        self._episodes[i] = Episode(episode.index + 1, self._seeds(i, episode.index + 1))

    def _take_over(self, i: int, situation: dict[str, Any] | None) -> None:
        """Notes what simulator i shows and accepts now; None: it has stopped."""
        self._observations[i] = None if situation is None else self._read(0, i, situation["prompt"])
        self.action_names[i] = () if situation is None else tuple(situation["action_names"])

    def _read(self, which: int, i: int, prompt: str) -> Observation:
        observation: Observation = {"frames": self._frames[which, i].copy(), "prompt": prompt}
        if self._history:
            observation["history"] = tuple(self._episodes[i].history)
        return observation

    def _running(self, number: int) -> list[int]:
        """The simulators of a worker that have an episode to run."""
        return [i for i in self._blocks[number] if self._episodes[i].seed is not None]

    def _spawn(self, number: int) -> WorkerProcess:
        """Starts a worker, which begins to make its simulators."""
        block = self._blocks[number]
        worker = WorkerProcess(self._memory)
        arguments = {"first": block[0], "count": len(block), "num_envs": self.num_envs}
        worker.send("make", {"env_id": self.env_id, "options": self._make_options, **arguments})
        return worker

    def _receive_shape(self, number: int) -> None:
        self.frames_shape = tuple(self._workers[number].receive(time.monotonic() + START_DEADLINE)["shape"])

    def _start_all(self) -> None:
        """Begins the current episode of every simulator, replaying the actions it has taken so far."""
        try:
            for number in range(len(self._workers)):
                self._send_start(number)
            self._each_worker(self._receive_start)
        except BaseException:
            self.close()
            raise

    def _send_start(self, number: int) -> None:
        episodes = [(i, self._episodes[i].seed, self._episodes[i].actions) for i in self._running(number)]
        self._workers[number].send("start", episodes)

    def _receive_start(self, number: int) -> None:
        replayed = max((len(self._episodes[i].actions) for i in self._running(number)), default=0)
        situations = self._workers[number].receive(time.monotonic() + START_DEADLINE + replayed * self.step_deadline)
        for i in self._blocks[number]:
            self._take_over(i, None)
        for i, situation in zip(self._running(number), situations, strict=True):
            self._take_over(i, situation)

    def _each_worker(self, receive: Callable[[int], None]) -> None:
        for number in range(len(self._workers)):
            try:
                receive(number)
            except WorkerLost as error:
                self._replace(number, error, "they could not start")

    def _replace(self, number: int, error: WorkerLost, consequence: str) -> None:
        """Starts a worker in place of one that failed, and its simulators' current episodes.

        Raises:
            SimulatorError: the worker has failed too often in a row.
        """
        for i in self._blocks[number]:
            self._take_over(i, None)  # those whose seeds have run out are not started again
        while True:
            self._failures[number] += 1
            if self._failures[number] >= _ATTEMPTS:
                raise SimulatorError(f"{self.env_id}: a worker failed {_ATTEMPTS} times in a row: {error}") from None
            names = ", ".join(str(i) for i in self._blocks[number])
            _log.warning("%s: replacing the worker of simulators %s, %s: %s", self.env_id, names, consequence, error)
            self._workers[number] = self._spawn(number)
            try:
                self._receive_shape(number)
                if self._running(number):
                    self._send_start(number)
                    self._receive_start(number)
            except WorkerLost as next_error:
                error, consequence = next_error, "they could not start"
            else:
                return

    def _require_begun(self) -> None:
        if all(episode.index < 0 for episode in self._episodes):
            raise RuntimeError("call reset or load_state_dict before step")

    def _require_idle(self) -> None:
        self._require_open()
        if self._asked:
            raise RuntimeError("a step is under way: call step_wait first")

    def _require_open(self) -> None:
        if not self._finalizer.alive:
            raise RuntimeError("the simulators have been closed")


def _close(workers: list[WorkerProcess], memory: int) -> None:
    for worker in workers:
        worker.connection.close()  # all at once: each then closes its simulators while the others do
    for worker in workers:
        worker.close()
    os.close(memory)
