"""BALROG (Paglieri et al. 2025, arXiv 2411.13543): six games, played in words, by how far an agent comes.

Source of the scores: balrog-ai/BALROG, `balrog/utils.py`, `collect_and_summarize_results`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness.records import Record, Records
from benchmarks.harness.scores import in_percent, overall
from benchmarks.harness.task import Benchmark, Runner
from benchmarks.suites.balrog.agents import IMAGE_HISTORY, REASONING_HISTORY, TEXT_HISTORY, make_agent
from benchmarks.suites.balrog.play import TEMPERATURE, play
from benchmarks.suites.balrog.suite import ENTRY, BalrogOptions
from benchmarks.suites.balrog.tasks import ENVIRONMENTS, chosen, make, plan, versions
from vldac.utils.progress import Progress

VERSION = 2


class Balrog(Benchmark):
    """The environments that the options name, or all that are installed.

    The full profile is BALROG's protocol for vision-language models: 255 episodes where all six are installed. The
    short one plays one episode of a few tasks of each, and fewer steps.

    Raises:
        SimulatorError: an environment is unknown or not installed.
        BenchmarkDataError: the published data is not what it should be.
    """

    name, title = ENTRY.name, ENTRY.title
    options: BalrogOptions

    def __init__(self, options: BalrogOptions) -> None:
        super().__init__(options)
        self.environments = chosen(options.environments)
        self.episodes = plan(self.environments, options.profile, options.limit, options.seed)
        self._made = list(
            dict.fromkeys(
                f"{episode.environment}/{episode.task}"
                for episode in self.episodes
                if ENVIRONMENTS[episode.environment].synthetic(episode.task, options.data)
            )
        )
        self.synthetic = bool(self._made)
        self._digests = self._game_digests()

    @property
    def max_new_tokens(self) -> int:
        """Of an answer: BALROG's 8,192, or what the short profile can wait for."""
        if self.options.max_new_tokens is not None:
            return self.options.max_new_tokens
        if self.options.profile == "full":
            return 8192
        return 32 if self.options.agent == "naive" else 256

    def identity(self) -> dict[str, Any]:
        """See `Benchmark`."""
        return {
            "benchmark": self.name,
            "version": VERSION,
            "profile": self.options.profile,
            "agent": self.options.agent,
            "style": self.options.style,
            "text_history": TEXT_HISTORY[self.options.style],
            "image_history": IMAGE_HISTORY,
            "reasoning_history": REASONING_HISTORY,
            "temperature": TEMPERATURE,
            "max_new_tokens": self.max_new_tokens,
            "seed": self.options.seed,
            "episodes": {
                task: sum(f"{episode.environment}/{episode.task}" == task for episode in self.episodes)
                for task in self._tasks()
            },
            "max_steps": {name: ENVIRONMENTS[name].short_steps for name in self.environments}
            if self.options.profile == "short"
            else {},
            "packages": versions(self.environments),
            "games": self._digests,
            "made_here": self._made,
        }

    def run(self, runner: Runner, records: Records) -> None:
        """Plays the episodes that have no record yet; one that was interrupted starts again."""
        open_ones = [episode for episode in self.episodes if episode.id not in records]
        options = self.options
        done, steps = len(self.episodes) - len(open_ones), 0
        with Progress(self.title, len(self.episodes), "episodes", done=done) as progress:

            def keep(record: Record) -> None:
                records.add(record)
                progress.advance()

            def count(more: int) -> None:
                nonlocal steps
                steps += more
                progress.advance(0, note=f"{steps} steps")

            play(
                open_ones,
                runner,
                make_environment=lambda episode: make(episode.environment, episode.task, options.data),
                make_agent=lambda environment: make_agent(options.agent, environment, options.style),
                max_new_tokens=self.max_new_tokens,
                batch_size=options.batch_size,
                done=keep,
                played=count,
            )

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """BALROG's summary: an environment is the mean over its episodes, the whole the mean over environments.

        Besides what `Benchmark` asks for, `environments` names those that were played and `not_run` the
        others; each environment has its own tasks.
        """
        environments = {}
        for name in ENVIRONMENTS:
            own = [record for record in records if record.task.split("/", 1)[0] == name]
            if not own:
                continue
            tasks = dict.fromkeys(
                f"{name}/{task}" for task in ENVIRONMENTS[name].tasks if any(r.task == f"{name}/{task}" for r in own)
            )
            environments[name] = _summary(own) | {
                "tasks": {
                    task.split("/", 1)[1]: _summary([record for record in own if record.task == task]) for task in tasks
                }
            }
        return overall(environments) | {
            "environments": list(environments),
            "not_run": [name for name in ENVIRONMENTS if name not in environments],
        }

    def _tasks(self) -> list[str]:
        return list(dict.fromkeys(f"{episode.environment}/{episode.task}" for episode in self.episodes))

    def _game_digests(self) -> dict[str, str]:
        """Of all data that is not drawn from an episode's seed by an installed package, by task."""
        found: dict[str, str] = {}
        for name in self.environments:
            found |= ENVIRONMENTS[name].digests(self._tasks_of(name), self.options.data)
        return found

    def _tasks_of(self, environment: str) -> list[str]:
        return list(dict.fromkeys(episode.task for episode in self.episodes if episode.environment == environment))


def _summary(records: Sequence[Record]) -> dict[str, Any]:
    """Score, error and count in percent; steps, return and the share of invalid answers of a mean episode."""
    count = len(records)
    metrics = {name: sum(record.metrics[name] for record in records) / count for name in ("steps", "return", "invalid")}
    return in_percent([record.score for record in records]) | {"metrics": metrics}
