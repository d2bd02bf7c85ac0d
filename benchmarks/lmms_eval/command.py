"""The published sets of general understanding, put and scored by lmms-eval.

    python -m benchmarks.lmms_eval --tasks gqa,mmbench_en_dev,mmstar,videomme --base models/base \\
        --policy models/policy --out scores/general

lmms-eval 0.7.3 (https://github.com/EvolvingLMMs-Lab/lmms-eval) is not among this project's packages: it wants
torchvision, OpenCV and many more, and downloads the sets from the Hugging Face hub. MMBench asks a GPT model about
answers that its rules cannot read (`mmbench_en_dev_static` does without). One process on one device.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from benchmarks.harness import command_line, runner, video
from benchmarks.harness.options import Options
from benchmarks.harness.records import UNANSWERED, Records
from benchmarks.harness.scores import plus_minus
from benchmarks.harness.task import BenchmarkDataError, Image, Message, MissingPackageError, Request, Runner, Unreadable
from benchmarks.lmms_eval.results import UnsupportedTaskError, records, summarize
from vldac.evaluation import model
from vldac.utils.errors import report_errors
from vldac.utils.files import write_json
from vldac.utils.libraries import quiet, set_threads
from vldac.utils.pictures import PictureError, read_picture, to_rgb
from vldac.utils.progress import Progress

log = logging.getLogger(__name__)

VERSION = "0.7.3"
#: lmms-eval's own Qwen2-VL stops there where a task sets no limit.
_MAX_NEW_TOKENS = 128
#: The options of every benchmark that mean something here.
OPTIONS = ("frames", "max_pixels", "min_pixels", "batch_size", "tokens_at_once", "limit")


def lmms_eval(module: str) -> ModuleType:
    """A module of lmms-eval.

    Raises:
        MissingPackageError: it, or a package that it needs, is not installed; the message names the command.
    """
    try:
        return importlib.import_module(f"lmms_eval.{module}")
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"published sets run through lmms-eval, and {error.name!r} is not installed; in an environment of its own, "
            f"beside this project: pip install lmms-eval=={VERSION}",
            name=error.name,
        ) from error


class Answers:
    """What lmms-eval asks of a model class, answered by a runner; `make_model` puts it on lmms-eval's base class.

    Args:
        answerer: answers conversations.
        frames: of a video, evenly spaced.
        batch_size: requests answered together.

    Attributes:
        unanswered: why a question could not be put, by `TASK-NUMBER`; its answer is the empty text.
    """

    #: Requests come as messages of text and media in their order, not as a text and a list of pictures.
    is_simple = False
    #: Set by lmms-eval: the rows of each task and split.
    task_dict: dict[str, Any]

    def __init__(self, answerer: Runner, *, frames: int, batch_size: int) -> None:
        super().__init__()
        self.answerer, self.frames, self.batch_size = answerer, frames, batch_size
        self.unanswered: dict[str, str] = {}

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """One text for each request, in order, cut before the first of its stop texts.

        Raises:
            UserError: too many questions cannot be put; see `benchmarks.harness.task.Unreadable`.
        """
        texts: list[str] = []
        unreadable = Unreadable()
        with Progress("lmms-eval", len(requests), "questions") as progress:
            for start in range(0, len(requests), self.batch_size):
                batch = requests[start : start + self.batch_size]
                asked: dict[int, Request] = {}
                for number, request in enumerate(batch):
                    try:
                        asked[number] = self._request(request, start + number)
                    except (PictureError, BenchmarkDataError) as error:
                        unreadable.skip(error)
                        self.unanswered[f"{request.args[4]}-{request.args[3]}"] = str(error)
                    else:
                        unreadable.loaded += 1
                answers = dict(zip(asked, self.answerer.answer(list(asked.values())), strict=True)) if asked else {}
                for number, request in enumerate(batch):
                    texts.append(_cut(answers.get(number, ""), request.args[2].get("until")))
                progress.advance(len(batch))
        if skipped := unreadable.finish():
            log.warning("%d of %d questions could not be put, and count as answered by nothing", skipped, len(requests))
        return texts

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not supported.

        Raises:
            UnsupportedTaskError: always.
        """
        raise UnsupportedTaskError(
            f"task {requests[0].task_name} compares probabilities of given answers, and this model is scored by "
            "what it writes; leave the task out"
        )

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not supported.

        Raises:
            UnsupportedTaskError: always.
        """
        raise UnsupportedTaskError(f"task {requests[0].task_name} has several rounds; leave the task out")

    def _request(self, request: Any, number: int) -> Request:
        _, to_messages, options, row, task, split = request.args
        temperature = float(options.get("temperature") or 0)
        if options.get("num_beams") not in (None, 1):
            raise UnsupportedTaskError(f"task {task} wants a beam search, which this model does not do; leave it out")
        if temperature > 0 and (options.get("top_p") not in (None, 1) or options.get("top_k")):
            raise UnsupportedTaskError(
                f"task {task} wants top-p or top-k sampling, which this model does not do; leave it out"
            )
        try:
            content = to_messages(self.task_dict[task][split][row])  # where the row's own pictures are decoded
        except (OSError, SyntaxError) as error:
            reason = " ".join(str(error).split())[:200]
            raise PictureError(f"row {row} of {task} cannot be read ({reason}); download the set again") from error
        messages = tuple(self._message(message) for message in content)
        return Request(messages, int(options.get("max_new_tokens") or _MAX_NEW_TOKENS), temperature, seed=number)

    def _message(self, message: Mapping[str, Any]) -> Message:
        content: list[str | Image] = []
        for part in message["content"]:
            if part["type"] == "text":
                # As lmms_eval/models/simple/qwen2_vl.py does: the pictures themselves are there already.
                content.append(part["text"].replace("<image>", ""))
            elif part["type"] == "image":
                content.append(_picture(part["url"]))
            elif part["type"] == "video" and isinstance(part["url"], str):
                content += video.read_frames(Path(part["url"]), self.frames)
            else:
                raise UnsupportedTaskError(f"a question holds {part['type']} of an unknown kind; leave its task out")
        return Message(message["role"], tuple(content))


def make_model(answerer: Runner, *, frames: int, batch_size: int) -> Any:
    """An lmms-eval model. Its class is made here, because its base class is lmms-eval's."""
    made = type("VLDAC", (Answers, lmms_eval("api.model").lmms), {})
    return made(answerer, frames=frames, batch_size=batch_size)


def _cut(text: str, until: str | Iterable[str] | None) -> str:
    """As lmms-eval's own Qwen2-VL does: up to the first stop text, without white space around it."""
    stops = [until] if isinstance(until, str) else until or []
    return text[: min((text.index(stop) for stop in stops if stop and stop in text), default=len(text))].strip()


def _picture(source: Any) -> Image:
    return read_picture(Path(source)) if isinstance(source, str) else to_rgb(source)


def evaluate(tasks: Sequence[str], made: Any, out: Path, limit: int | None, batch_size: int) -> dict[str, Any]:
    """Lets lmms-eval put the questions of `tasks` to a model of `make_model`, and returns its results.

    Raises:
        UnsupportedTaskError: lmms-eval knows no such task.
    """
    manager = lmms_eval("tasks").TaskManager("WARNING", model_name="vldac")  # a name without prompts of its own
    if unknown := [task for task in tasks if task not in manager.all_tasks]:
        raise UnsupportedTaskError(f"lmms-eval has no task {unknown[0]!r}; list them with: lmms-eval tasks list")
    results = lmms_eval("evaluator").simple_evaluate(
        model=made,
        tasks=list(tasks),
        task_manager=manager,
        limit=limit,
        batch_size=batch_size,
        # The aggregation of MMBench writes a file beside the results, and finds the folder in the command's options.
        cli_args=argparse.Namespace(output_path=str(out), process_with_media=False),
    )
    return cast("dict[str, Any]", results)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.lmms_eval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--tasks", required=True, help="of lmms-eval, separated by commas")
    command_line.add_model(made)
    made.add_argument("--out", required=True, type=Path, help="takes results.json, records.jsonl and summary.json")
    made.add_argument("--overwrite", action="store_true", help="remove records of other tasks or another model first")
    command_line.add_options(made, [Options], OPTIONS)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    made = parser()
    parsed = made.parse_args(arguments)
    command_line.check_model(made, parsed)
    options = command_line.validated(Options, command_line.given(parsed, Options), made.error)
    lmms_eval("evaluator")  # before a model is loaded: it may not be installed
    quiet()
    set_threads(1 if parsed.threads is None else parsed.threads)
    tasks = [task.strip() for task in parsed.tasks.split(",")]
    vlm = model.load(parsed.base, parsed.policy, dtype=parsed.dtype, revision=parsed.revision)
    identity = {
        "benchmark": "lmms_eval",
        "version": VERSION,
        "tasks": tasks,
        "limit": options.limit,
        "frames": options.frames,
        "max_pixels": options.max_pixels,
        "min_pixels": options.min_pixels,
        "dtype": str(next(vlm.parameters()).dtype),
        "model": model.digest(vlm, parsed.base, parsed.policy),
    }
    answerer = runner.VLMRunner(
        vlm, max_pixels=options.max_pixels, min_pixels=options.min_pixels, tokens_at_once=options.tokens_at_once
    )
    adapter = make_model(answerer, frames=options.frames, batch_size=options.batch_size)
    with Records(parsed.out, identity, overwrite=parsed.overwrite) as kept:
        results = evaluate(tasks, adapter, parsed.out, options.limit, options.batch_size)
        shown = {name: value for name, value in results.items() if name != "samples"}
        write_json(parsed.out / "results.json", json.loads(json.dumps(shown, default=str)))
        for record in records(results):
            if record.id not in kept:
                reason = adapter.unanswered.get(record.id)
                kept.add(record if reason is None else replace(record, details={UNANSWERED: reason}))
    scores = summarize(results)
    summary = {"benchmark": "lmms_eval", "title": "General understanding (lmms-eval)", "synthetic": False, **scores}
    if adapter.unanswered:
        summary["unanswered"] = len(adapter.unanswered)
    write_json(parsed.out / "summary.json", {**summary, "identity": identity})
    for name, task in [*scores["tasks"].items(), ("overall", scores)]:
        print(f"{name:<24} {plus_minus(task)}   n={task['count']}")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
