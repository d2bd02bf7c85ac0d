"""What a small model is taught before it acts: observations of simulators with what is true of them.

`sources` says where they come from: the environment of the run with questions about drawn pictures beside it, or a
mixture of environments, and of lessons from elsewhere, that does not depend on the run's own.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np

from envs import registry
from envs.base import TRAINING_SEEDS, Env, Exchange, Mark, Observation
from vldac import parsing
from vldac.config import Config
from vldac.models.conversation import Message
from vldac.parsing import ParsedResponse
from vldac.utils.errors import UserError
from vldac.utils.progress import Progress
from vldac.utils.registry import Registry
from vldac.utils.seeding import derive_seed

PICTURES = "Pictures-v0"
_LONGEST_WALK = 12  # steps of a random walk before the next episode: starts of episodes stay frequent
#: Pixels of drawn pictures, as the small models are asked by `benchmarks.suites.understanding`.
_SIZE_IN_A_MIXTURE = {"width": 64, "height": 48}
_WRITTEN = 2000  # examples whose answers are in the tokenizer's corpus
_LESSONS = Registry("set of lessons", {}, group="vldac.lessons")


@dataclass(frozen=True)
class Example:
    """One observation with what is true of it.

    Attributes:
        observation: what the model is shown; of a conversation, one of its pictures and all of its text.
        description: the true scene description.
        actions: those that are accepted, one of which is drawn at random each time the example is used.
        expert: what the environment's expert would do; None where it has none, or where it is not asked.
        expert_share: how often the expert's action takes the place of the drawn one.
        marks: what the newest frame shows, and where.
        messages: the conversation that ends where the model answers, where it is more than frames and then a prompt.
    """

    observation: Observation
    description: str
    actions: tuple[str, ...]
    expert: str | None = None
    expert_share: float = 0.0
    marks: tuple[Mark, ...] = ()
    messages: tuple[Message, ...] = ()

    @classmethod
    def of(
        cls,
        messages: tuple[Message, ...],
        description: str,
        actions: tuple[str, ...],
        marks: tuple[Mark, ...] = (),
        marked: int = -1,
    ) -> Example:
        """An example that is a conversation.

        Args:
            messages: with at least one picture.
            description: see `Example`.
            actions: see `Example`.
            marks: what one of the pictures shows, and where.
            marked: the number of that picture.
        """
        pictures = [image for message in messages for image in message.images]
        observation: Observation = {
            "frames": pictures[marked][None],
            "prompt": "\n".join(message.text for message in messages),
        }
        return cls(observation, description, actions, marks=marks, messages=messages)


class Lessons(Protocol):
    """Examples from elsewhere than a simulator of `envs`, such as questions like those of a benchmark.

    `warm_start.lessons` names a class as `module:Class`. It is called with the keyword argument `prompt`, the style of
    prompts (`full` or `terse`), and with the options that the entry gives.
    """

    def examples(self, seed: int) -> Iterator[Example]:
        """Yields examples without end, the same for the same seed (63 bits)."""
        ...


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
        history: exchanges that observations hold at most, each with a true description and the action of the walk.
        questions: whether the expert's answer is the only right one and every observation is an episode of its own.
        lessons: whether `env_id` names a class of `Lessons`, and `make_options` are those of its entry.
    """

    env_id: str
    make_options: Mapping[str, Any] = field(hash=False)
    share: float
    seed: int
    expert_walk: float = 0.0
    expert_actions: float = 0.0
    marks: bool = False
    history: int = 0
    questions: bool = False
    lessons: bool = False


def sources(config: Config) -> list[Source]:
    """Where the examples of a warm start come from, with shares that add up to 1; the drawn pictures last."""
    settings, env, marks = config.warm_start, config.env, config.warm_start.dense_updates > 0
    if settings.mixture:
        shares = [part.share for part in settings.mixture] + [part.share for part in settings.lessons]
        total = sum(shares) / (1 - settings.pictures)
        found = [
            Source(
                part.id,
                part.make_options(env.prompt),
                part.share / total,
                derive_seed(config.seed, "examples", number),
                expert_walk=part.expert_walk,
                expert_actions=part.expert_actions,
                marks=marks,
                history=env.history,
            )
            for number, part in enumerate(settings.mixture)
        ]
        found += [
            Source(
                part.id,
                {"prompt": env.prompt, **part.options},
                part.share / total,
                derive_seed(config.seed, "lessons", number),
                lessons=True,
            )
            for number, part in enumerate(settings.lessons)
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
                history=env.history,
            )
        ]
        size = {"width": env.width, "height": env.height}
    if settings.pictures:
        options = {**size, "prompt": env.prompt}
        seed = derive_seed(config.seed, "pictures")
        found.append(Source(PICTURES, options, settings.pictures, seed, marks=marks, questions=True))
    return found


def collect(source: Source, count: int) -> list[Example]:
    """Walks through one simulator, at random or in part as its expert would, and describes what is seen.

    Raises:
        UserError: the class of lessons is not there, or has no such option.
    """
    if source.lessons:
        return _collect_lessons(source, count)
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
            history = deque[Exchange](maxlen=source.history)
            for _ in range(int(rng.integers(1, _LONGEST_WALK + 1))):
                expert = unwrapped.expert_action() if asked else None
                description = unwrapped.describe()
                examples.append(
                    Example(
                        {**observation, "history": tuple(history)} if source.history else observation,
                        description,
                        unwrapped.action_names,
                        expert,
                        source.expert_actions,
                        marks(),
                    )
                )
                name = str(rng.choice(unwrapped.action_names))
                if expert is not None and rng.random() < source.expert_walk:
                    name = expert
                answer = parsing.render_response(ParsedResponse(description, name))
                history.append(Exchange(observation["prompt"], answer))
                observation, _, terminated, truncated, _ = env.step(unwrapped.parse_action(name))
                if terminated or truncated:
                    break
            progress.advance(min(len(examples), count) - progress.done)
    return examples[:count]


def _collect_lessons(source: Source, count: int) -> list[Example]:
    made = _LESSONS.load(source.env_id)
    try:
        inspect.signature(made).bind(**source.make_options)
    except TypeError as error:
        known = [name for name in inspect.signature(made).parameters if name != "prompt"]
        raise UserError(
            f"warm_start.lessons {source.env_id}: {error}; its options are {', '.join(known) or 'none'}"
        ) from None
    lessons: Lessons = made(**source.make_options)
    examples = []
    with Progress(f"lessons of {source.env_id}", count, "examples") as progress:
        for example in islice(lessons.examples(source.seed), count):
            examples.append(example)
            progress.advance()
    return examples


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 (hex) over all that examples show and teach, in their order."""
    digest = hashlib.sha256()
    for example in examples:
        observation = example.observation
        shown = example.messages or (Message("user", (*observation["frames"], observation["prompt"])),)
        for message in shown:
            for part in message.content:
                data = part.encode() if isinstance(part, str) else np.ascontiguousarray(part).tobytes()
                digest.update(len(data).to_bytes(8) + data)
        taught = replace(example, observation={**observation, "frames": observation["frames"][:0]}, messages=())
        digest.update(repr(taught).encode())
    return digest.hexdigest()


def corpus(examples: Sequence[Example]) -> list[str]:
    """Every text that the model will read or write, for its tokenizer."""
    prompts = sorted({e.observation["prompt"] for e in examples})
    written = [
        parsing.render_response(ParsedResponse(e.description, a)) for e in examples[:_WRITTEN] for a in e.actions
    ]
    return [*prompts * max(1, len(written) // max(1, len(prompts)) // 4), *written, "user\n", "assistant\n"]
