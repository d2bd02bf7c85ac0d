"""What a small model is taught before it acts: observations of simulators with what is true of them.

`sources` says where they come from: the environment of the run with questions about drawn pictures beside it, or a
mixture of environments that does not depend on the run's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from envs import registry
from envs.base import TRAINING_SEEDS, Env, Mark, Observation
from vldac import parsing
from vldac.config import Config
from vldac.parsing import ParsedResponse
from vldac.utils.progress import Progress
from vldac.utils.seeding import derive_seed

PICTURES = "Pictures-v0"
_LONGEST_WALK = 12  # steps of a random walk before the next episode: starts of episodes stay frequent
#: Pixels of drawn pictures, as the small models are asked by `benchmarks.suites.understanding`.
_SIZE_IN_A_MIXTURE = {"width": 64, "height": 48}
_WRITTEN = 2000  # examples whose answers are in the tokenizer's corpus


@dataclass(frozen=True)
class Example:
    """One observation with what is true of it.

    Attributes:
        observation: what the model is shown.
        description: the true scene description.
        actions: those that are accepted, one of which is drawn at random each time the example is used.
        expert: what the environment's expert would do; None where it has none, or where it is not asked.
        expert_share: how often the expert's action takes the place of the drawn one.
        marks: what the newest frame shows, and where.
    """

    observation: Observation
    description: str
    actions: tuple[str, ...]
    expert: str | None = None
    expert_share: float = 0.0
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Source:
    """A simulator that examples come from.

    Attributes:
        env_id: of the environment.
        make_options: keyword arguments of `envs.registry.make`.
        share: of all examples.
        seed: of the walks through it.
        expert_walk: share of the walk that the environment's expert takes.
        expert_actions: share of the actions taught that are the expert's.
        marks: whether to ask what the frames show where, which costs renderings.
        questions: whether the expert's answer is the only right one and every observation is an episode of its own.
    """

    env_id: str
    make_options: Mapping[str, Any] = field(hash=False)
    share: float
    seed: int
    expert_walk: float = 0.0
    expert_actions: float = 0.0
    marks: bool = False
    questions: bool = False


def sources(config: Config) -> list[Source]:
    """Where the examples of a warm start come from, with shares that add up to 1; the drawn pictures last."""
    settings, env, marks = config.warm_start, config.env, config.warm_start.dense_updates > 0
    if settings.mixture:
        total = sum(part.share for part in settings.mixture) / (1 - settings.pictures)
        found = [
            Source(
                part.id,
                part.make_options(env.prompt),
                part.share / total,
                derive_seed(config.seed, "examples", number),
                expert_walk=part.expert_walk,
                expert_actions=part.expert_actions,
                marks=marks,
            )
            for number, part in enumerate(settings.mixture)
        ]
        size = _SIZE_IN_A_MIXTURE
    else:
        found = [
            Source(
                env.id,
                env.make_options | {"expert_start": 0.0},  # which is of training alone
                1 - settings.pictures,
                derive_seed(config.seed, "examples"),
                expert_walk=settings.expert_walk,
                expert_actions=settings.expert_actions,
                marks=marks,
            )
        ]
        size = {"width": env.width, "height": env.height}
    if settings.pictures:
        options = {**size, "prompt": env.prompt}
        seed = derive_seed(config.seed, "pictures")
        found.append(Source(PICTURES, options, settings.pictures, seed, marks=marks, questions=True))
    return found


def collect(source: Source, count: int) -> list[Example]:
    """Walks through one simulator, at random or in part as its expert would, and describes what is seen."""
    rng = np.random.default_rng(source.seed)
    asked = source.questions or source.expert_walk > 0 or source.expert_actions > 0
    env = registry.make(source.env_id, **source.make_options)
    unwrapped = cast(Env, env.unwrapped)
    examples: list[Example] = []

    def marks() -> tuple[Mark, ...]:
        return unwrapped.marks() if source.marks else ()

    with closing(env), Progress(f"examples of {source.env_id}", count, "examples") as progress:
        while len(examples) < count:
            observation, _ = env.reset(seed=int(rng.integers(TRAINING_SEEDS.start, TRAINING_SEEDS.stop)))
            if source.questions:
                right = unwrapped.expert_action()
                assert right is not None
                examples.append(Example(observation, unwrapped.describe(), (right,), marks=marks()))
                progress.advance()
                continue
            for _ in range(int(rng.integers(1, _LONGEST_WALK + 1))):
                expert = unwrapped.expert_action() if asked else None
                examples.append(
                    Example(
                        observation,
                        unwrapped.describe(),
                        unwrapped.action_names,
                        expert,
                        source.expert_actions,
                        marks(),
                    )
                )
                name = str(rng.choice(unwrapped.action_names))
                if expert is not None and rng.random() < source.expert_walk:
                    name = expert
                observation, _, terminated, truncated, _ = env.step(unwrapped.parse_action(name))
                if terminated or truncated:
                    break
            progress.advance(min(len(examples), count) - progress.done)
    return examples[:count]


def corpus(examples: Sequence[Example]) -> list[str]:
    """Every text that the model will read or write, for its tokenizer."""
    prompts = sorted({e.observation["prompt"] for e in examples})
    written = [
        parsing.render_response(ParsedResponse(e.description, a)) for e in examples[:_WRITTEN] for a in e.actions
    ]
    return [*prompts * max(1, len(written) // max(1, len(prompts)) // 4), *written, "user\n", "assistant\n"]
