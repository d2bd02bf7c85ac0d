"""Seven tasks on screenshots of web pages, scored as the published program or as lmms-eval scores them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

from benchmarks.harness.records import Record
from benchmarks.harness.scores import in_percent, overall
from benchmarks.harness.task import Question, QuestionBenchmark, Scored
from benchmarks.suites.visual_web_bench import published, synthetic
from benchmarks.suites.visual_web_bench.example import TASKS, WEBQA, Example
from benchmarks.suites.visual_web_bench.prompts import prompt
from benchmarks.suites.visual_web_bench.scoring import score
from benchmarks.suites.visual_web_bench.suite import ENTRY, VisualWebBenchOptions
from vldac.models.conversation import Message

#: Of an answer, in tokens: model_adapters/llava_adapter.py, and generation_kwargs of the tasks of lmms-eval.
MAX_NEW_TOKENS = {"original": 512, "lmms-eval": 16}
#: Questions of each task; the published data has 46 to 413.
_SHORT, _SYNTHETIC_FULL = 6, 30
#: Width and height of the synthetic pictures.
_SIZE = {"short": (448, 336), "full": (1280, 720)}


class VisualWebBench(QuestionBenchmark):
    """VisualWebBench (arXiv 2404.05955): captions, questions, text, elements and clicks on web pages.

    The headline of a task is ROUGE-L of web_caption, heading_ocr and element_ocr, the best ROUGE-1 over the accepted
    answers of webqa, and accuracy of the tasks with options; that of the benchmark is the mean of the seven. The data
    comes from the folder `options.data`, or from the hub if it is the id of a data set there; without it the pages are
    drawn here. `short` takes the first six questions of each task.

    Args:
        options: `profile`, `data`, `style`, `parser`, `batch_size`, `limit`, `max_new_tokens` and `seed` count.

    Raises:
        BenchmarkDataError: the data is missing or is not what its published layout says.
    """

    name, title = ENTRY.name, ENTRY.title
    options: VisualWebBenchOptions

    def __init__(self, options: VisualWebBenchOptions) -> None:
        super().__init__(options)
        self.max_new_tokens = options.max_new_tokens or MAX_NEW_TOKENS[options.parser]
        self.synthetic = options.data is None
        self._data = None if options.data is None else published.folder(options.data)
        limit = options.limit
        if limit is None and options.profile == "short":
            limit = _SHORT
        if self._data is None:
            width, height = _SIZE[options.profile]
            self._examples = synthetic.examples(width, height, _SYNTHETIC_FULL if limit is None else limit)
        else:
            self._examples = published.read(self._data, limit)
        self._by_id = {example.id: example for example in self._examples}

    def identity(self) -> dict[str, Any]:
        """The options that count, a digest of the data, and a version."""
        return {
            "benchmark": self.name,
            "version": 1,
            "synthetic": self.synthetic,
            "data": self._digest,
            "profile": self.options.profile,
            "style": self.options.style,
            "parser": self.options.parser,
            "limit": self.options.limit,
            "max_new_tokens": self.max_new_tokens,
            "seed": self.options.seed,
        }

    @cached_property
    def _digest(self) -> str:
        if self._data is not None:
            return published.digest(self._data)
        return hashlib.sha256("\n".join(map(repr, self._examples)).encode()).hexdigest()

    def questions(self) -> Sequence[Question]:
        """All questions of the profile, task by task in the order of the published table."""
        return [
            Question(
                id=example.id,
                task=example.task,
                images=(example.source,),
                load=partial(self._messages, example),
                gold={"answer": example.answer},
            )
            for example in self._examples
        ]

    def score(self, question: Question, text: str) -> Scored:
        """What an answer is worth by the rules of `options.parser`; see `scoring.score`."""
        return score(question.task, self._by_id[question.id].answer, text, self.options.parser)

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The scores in percent, and under `metrics` those of each task's metrics that are not its headline too.

        As in the published program, the mean of webqa leaves out the questions that `scoring.score` gives no `f1`,
        unless none would be left.
        """
        tasks = {}
        for task in TASKS:
            of_task = [record for record in records if record.task == task]
            if task == WEBQA:
                of_task = [record for record in of_task if "f1" in record.metrics] or of_task
            if of_task:
                tasks[task] = in_percent([record.score for record in of_task]) | {"metrics": _metrics(of_task)}
        return overall(tasks)

    def _messages(self, example: Example) -> tuple[Message, ...]:
        return (Message("user", (example.load(), prompt(example, self.options.style))),)


def _metrics(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Each metric of one task in percent, with its standard error and count."""
    names = dict.fromkeys(name for record in records for name in record.metrics)
    return {name: in_percent([record.metrics.get(name, 0.0) for record in records]) for name in names}
