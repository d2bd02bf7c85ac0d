"""Questions about drawn pictures, the same for every model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, cast

from benchmarks.harness.records import Record
from benchmarks.harness.scores import overall
from benchmarks.harness.task import BenchmarkDataError, Message, Options, Question, QuestionBenchmark, Scored
from benchmarks.suites.understanding.reader import read
from benchmarks.suites.understanding.suite import ENTRY
from envs import registry
from envs.base import EVALUATION_SEEDS, Env

#: Of the rules; records of another version are never mixed in.
VERSION = 1
KINDS = ("count", "color", "relation", "reading", "order")
#: Questions of each kind. The short set is the beginning of the full one.
COUNTS = {"short": 40, "full": 100}
#: Width and height of a picture in pixels: as models of a few million parameters see, and pretrained ones.
SIZES = {"terse": (64, 48), "full": (448, 336)}
#: Where the seeds of the first kind begin, and how many each kind has: evaluations in simulators take the first few.
_FIRST_SEED, _SEEDS = 2**20, 2**12


class Understanding(QuestionBenchmark):
    """General understanding on a synthetic set of five kinds of question.

    The score is the mean over kinds of the share of right answers. `chance` in the metrics is what a guess among the
    options would score.

    Args:
        options: `profile`, `style`, `limit`, `batch_size` and `max_new_tokens` concern this benchmark.

    Raises:
        BenchmarkDataError: `options.data` is given, or `options.limit` is above 4096.
    """

    name, title = ENTRY.name, ENTRY.title
    synthetic = True
    max_new_tokens = 128

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        if options.data is not None:
            raise BenchmarkDataError(
                f"this benchmark draws its own pictures and has no use for the data in {options.data}; published sets "
                "run through lmms-eval: python -m benchmarks.lmms_eval --tasks gqa,mmstar --base DIR --out DIR"
            )
        self.count = COUNTS[options.profile] if options.limit is None else options.limit
        if not 1 <= self.count <= _SEEDS:
            raise BenchmarkDataError(f"limit is {options.limit}; it must be from 1 to {_SEEDS} questions of each kind")
        self.size = SIZES[options.style]
        self._envs = {kind: self._env(kind) for kind in KINDS}

    def identity(self) -> dict[str, Any]:
        """See `Benchmark`; the digest covers prompts, options, answers and pixels."""
        return {
            "version": VERSION,
            "style": self.options.style,
            "questions_of_each_kind": self.count,
            "picture": list(self.size),
            "max_new_tokens": self.options.max_new_tokens or self.max_new_tokens,
            "digest": self._set[1],
        }

    def questions(self) -> Sequence[Question]:
        """All questions, kind by kind."""
        return self._set[0]

    def score(self, question: Question, text: str) -> Scored:
        """1 for the right option, 0 for anything else; see `reader.read`."""
        options = question.gold["options"]
        parsed = read(text, options, lettered=self.options.style == "full")
        return Scored(float(parsed == question.gold["answer"]), parsed, {"chance": 1 / len(options)})

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The mean over kinds; the metrics of each kind and of the whole hold what a guess would score, in percent."""
        tasks = super().summarize(records)["tasks"]
        for kind, scores in tasks.items():
            chances = [record.metrics["chance"] for record in records if record.task == kind]
            scores["metrics"] = {"chance": 100 * sum(chances) / len(chances)}
        chance = sum(scores["metrics"]["chance"] for scores in tasks.values()) / len(tasks)
        return {**overall(tasks), "metrics": {"chance": chance}}

    def _env(self, kind: str) -> Env:
        width, height = self.size
        env = registry.make(
            "Pictures-v0", width=width, height=height, prompt=self.options.style, options={"kinds": kind}
        )
        return cast(Env, env.unwrapped)

    def _load(self, kind: str, seed: int) -> tuple[Message, ...]:
        observation, _ = self._envs[kind].reset(seed=seed)
        return (Message("user", (*observation["frames"], observation["prompt"])),)

    @cached_property
    def _set(self) -> tuple[list[Question], str]:
        """The questions, and a digest of all that is in them; pictures are drawn again when they are asked for."""
        questions, digest = [], hashlib.sha256()
        for kind, unwrapped in self._envs.items():
            for number in range(self.count):
                seed = seed_of(kind, number)
                observation, _ = unwrapped.reset(seed=seed)
                gold = {"options": unwrapped.action_names, "answer": unwrapped.expert_action()}
                source = f"Pictures-v0 {self.size[0]}x{self.size[1]}, kinds {kind}, seed {seed}"
                load = partial(self._load, kind, seed)
                questions.append(Question(f"{kind}-{number:04}", kind, (source,), load, gold))
                digest.update(json.dumps([observation["prompt"], gold]).encode("ascii"))
                digest.update(observation["frames"].tobytes())
        return questions, digest.hexdigest()[:16]


def seed_of(kind: str, number: int) -> int:
    """The seed of a question, out of `EVALUATION_SEEDS`, which training and warm starts never draw from."""
    return EVALUATION_SEEDS[_FIRST_SEED + KINDS.index(kind) * _SEEDS + number]
