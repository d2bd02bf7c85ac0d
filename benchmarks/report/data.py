"""What a directory of results holds, read strictly: the scores of summary.json, the lines of records.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.harness import registry
from benchmarks.harness.records import IDENTITY, RECORDS, SUMMARY, UNANSWERED, Record, finite, record_of
from benchmarks.harness.scores import known_error
from vldac.utils.errors import UserError

#: Of the files that are read, in bytes.
MAX_SUMMARY, MAX_RECORDS = 2**24, 2**30
#: Of the names of benchmarks, tasks and metrics, in characters.
MAX_NAME = 80


class ReportError(UserError):
    """Two directories cannot be compared; the message is one line."""


@dataclass(frozen=True)
class Scores:
    """The scores of a benchmark or a task, in percent.

    Attributes:
        score: the headline.
        standard_error: of the headline; None where it cannot be known, see `known_error`.
        count: of records.
        metrics: further ones, such as the level of chance.
        tasks: beneath it.
    """

    score: float
    standard_error: float | None
    count: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, Scores] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchmarkRun:
    """One benchmark of one model.

    Attributes:
        benchmark: its name.
        title: its name as people write it.
        synthetic: whether its data only resembles the published data.
        scores: of the whole, with those of the tasks.
        identity: all that decides the records besides the model.
        records: by id, in the order of the file.
        model: what benchmark.json says of the model, empty where there is no such file.
        left_out: parts of the benchmark that were not run, such as games whose package is not installed.
    """

    benchmark: str
    title: str
    synthetic: bool
    scores: Scores
    identity: Mapping[str, Any]
    records: Mapping[str, Record]
    model: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def short(self) -> bool:
        """Whether only a part of the benchmark was run."""
        return self.identity.get("profile") == "short" or self.identity.get("limit") is not None or bool(self.left_out)


def read(directory: Path) -> dict[str, BenchmarkRun]:
    """All finished benchmarks in a directory by name: those that are registered in their order, then others by name.

    Raises:
        ReportError: there is no such directory, no finished benchmark in it, or a file that is not as benchmarks write
            it.
        OSError: a file cannot be read.
    """
    if not directory.is_dir():
        raise ReportError(f"there is no directory {directory}; name one that `python -m benchmarks` wrote results into")
    found = sorted(path.parent.name for path in directory.glob(f"*/{SUMMARY}"))
    if not found:
        raise ReportError(
            f"no benchmark in {directory} is finished; run one with: python -m benchmarks --benchmark NAME --out ..."
        )
    known = registry.names()
    names = [name for name in known if name in found] + [name for name in found if name not in known]
    return {name: read_benchmark(directory / name) for name in names}


def unfinished(directory: Path) -> list[str]:
    """The benchmarks in a directory that have records and no summary yet."""
    begun = {path.parent.name for path in directory.glob(f"*/{RECORDS}")}
    return sorted(begun - {path.parent.name for path in directory.glob(f"*/{SUMMARY}")})


def read_benchmark(directory: Path) -> BenchmarkRun:
    """One finished benchmark; see `read`. Its name is that of the directory, which the summary must confirm."""
    path = directory / SUMMARY
    summary = _object(path)
    try:
        if summary["benchmark"] != directory.name:
            raise ValueError(f"it is of the benchmark {summary['benchmark']!r:.80}")  # noqa: TRY301  # every fault is told alike
        title, synthetic, identity = summary["title"], summary["synthetic"], summary["identity"]
        if not (isinstance(title, str) and isinstance(synthetic, bool) and isinstance(identity, dict)):
            raise ValueError("title, synthetic or identity is of the wrong type")  # noqa: TRY301, TRY004
        left_out = summary.get("not_run", summary.get("not_examined", []))  # of earlier versions
        if not isinstance(left_out, list):
            raise ValueError("not_run is no list")  # noqa: TRY301, TRY004
        left_out = tuple(map(_name, left_out))
        scores = _scores(summary)
    except (KeyError, ValueError, OverflowError, RecursionError) as error:
        raise _not_ours(path, error) from error
    benchmark_file = directory / IDENTITY
    model = _object(benchmark_file).get("model") if benchmark_file.exists() else None
    return BenchmarkRun(
        benchmark=directory.name,
        title=title[:MAX_NAME],
        synthetic=synthetic,
        scores=scores,
        # lmms-eval's summary names the model there too, and the model is what may differ.
        identity={key: value for key, value in identity.items() if key != "model"},
        records=_records(directory / RECORDS),
        model=model if isinstance(model, dict) else {},
        left_out=left_out,
    )


def _scores(values: Any, depth: int = 0) -> Scores:
    if not isinstance(values, dict) or depth > 2:
        raise ValueError("scores are no object, or too deep")
    tasks, metrics, count = values.get("tasks", {}), values.get("metrics", {}), values["count"]
    if not (isinstance(tasks, dict) and isinstance(metrics, dict) and type(count) is int and count >= 0):
        raise ValueError("count, tasks or metrics is of the wrong type")
    beneath = {_name(name): _scores(task, depth + 1) for name, task in tasks.items()}
    finite(values["standard_error"])
    return Scores(
        score=finite(values["score"]),
        standard_error=known_error(values),
        count=count,
        metrics={_name(k): finite(v["score"] if isinstance(v, dict) else v) for k, v in metrics.items()},
        tasks=beneath,
    )


def _records(path: Path) -> dict[str, Record]:
    records: dict[str, Record] = {}
    content = _bytes(path, MAX_RECORDS)
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
        try:
            record = _record(_json(line))
            if record.id in records and not records[record.id].unanswered:
                raise ValueError(f"a second record of {record.id!r:.80}")  # noqa: TRY301  # every fault is told alike
        except (KeyError, ValueError, OverflowError, RecursionError) as error:
            raise _not_ours(path, error, f", line {number}") from error
        records[record.id] = record
    return records


def _record(values: Any) -> Record:
    record = record_of(values)
    reason = record.details.get(UNANSWERED)
    return replace(record, details={UNANSWERED: reason} if isinstance(reason, str) else {})  # no other detail is shown


def _name(text: Any) -> str:
    if not isinstance(text, str) or not text or len(text) > MAX_NAME:
        raise ValueError(f"{text!r:.80} is no name of at most {MAX_NAME} characters")
    return text


def _object(path: Path) -> dict[str, Any]:
    try:
        value = _json(_bytes(path, MAX_SUMMARY))
        if not isinstance(value, dict):
            raise ValueError("no object")  # noqa: TRY004, TRY301  # every fault is told alike
    except (ValueError, RecursionError) as error:
        raise _not_ours(path, error) from error
    return value


def _bytes(path: Path, limit: int) -> bytes:
    if not path.exists():
        raise ReportError(f"{path} is missing; run the same benchmark again")
    if path.stat().st_size > limit:
        raise ReportError(
            f"{path} has more than {limit} bytes, which no benchmark writes; remove it and run the benchmark again"
        )
    return path.read_bytes()


def _json(text: bytes) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _not_ours(path: Path, error: BaseException, place: str = "") -> ReportError:
    fault = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
    return ReportError(
        f"{path}{place} is not as a benchmark writes it ({fault}); remove it and run the benchmark again"
    )
