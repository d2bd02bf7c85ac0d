"""Lessons in BALROG's games: its prompts with what is true of the observation, and random legal actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np

from benchmarks.harness.options import Style
from benchmarks.suites.balrog.agents import make_agent
from benchmarks.suites.balrog.environment import Observation
from benchmarks.suites.balrog.tasks import ENVIRONMENTS, chosen, make
from vldac.examples import Example
from vldac.utils.errors import UserError

#: First of the seeds of lessons: those of the benchmark are below (`benchmarks.suites.balrog.tasks.first_seed`).
FIRST_SEED = 2**31
_LONGEST_WALK = 12  # steps before the next episode


def _last_line(observation: Observation) -> str:
    return observation.long_term_context.rpartition("\n")[2]


def _last_seen(observation: Observation) -> str:
    """The last line of what NetHack's language wrapper sees, such as "tame kitten adjacent northeast"."""
    seen = observation.long_term_context.partition("language observation:\n")[2].partition("\n\n")[0]
    return seen.rpartition("\n")[2]


#: What is true of an observation, in one line of its text; of the games whose actions can be listed and that have a
#: picture.
DESCRIPTIONS: dict[str, Callable[[Observation], str]] = {
    "babyai": _last_line,
    "crafter": _last_line,
    "minihack": _last_seen,
    "nle": _last_seen,
}


class BalrogLessons:
    """Random walks through BALROG's games, as its naive agent is asked.

    Args:
        prompt: style of the prompts.
        environments: of `DESCRIPTIONS`, in the tasks of the short profile; each gives as many episodes. If none is
            named, those of them that are installed.

    Raises:
        UnknownEnvError: there is no such environment.
        MissingSimulatorError: one of them is not installed.
        UserError: an environment has no lessons.
    """

    def __init__(self, *, prompt: Style, environments: tuple[str, ...] = ()) -> None:
        self.style = prompt
        if without := [name for name in environments if name in ENVIRONMENTS and name not in DESCRIPTIONS]:
            raise UserError(f"BALROG's {without[0]} has no lessons; choose from {', '.join(DESCRIPTIONS)}")
        self.environments = [name for name in chosen(environments) if name in DESCRIPTIONS]

    def examples(self, seed: int) -> Iterator[Example]:
        """See `vldac.examples.Lessons`."""
        rng = np.random.default_rng(seed)
        while True:
            name = str(rng.choice(self.environments))
            task = str(rng.choice(ENVIRONMENTS[name].short_tasks))
            with closing(make(name, task)) as environment:
                observation = environment.reset(FIRST_SEED + int(rng.integers(2**31)))
                agent = make_agent("naive", environment, self.style)
                for _ in range(int(rng.integers(1, _LONGEST_WALK + 1))):
                    yield Example.of(agent.ask(observation), DESCRIPTIONS[name](observation), environment.actions)
                    action = str(rng.choice(environment.actions))
                    agent.hear(action)
                    observation, _, terminated, truncated = environment.step(action)
                    if terminated or truncated:
                        break
