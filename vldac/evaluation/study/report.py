"""What a study found: tables in Markdown, with figures beside them (`vldac.evaluation.study.figures`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vldac.evaluation import aggregation
from vldac.evaluation.aggregation import Estimate
from vldac.evaluation.statistics import wilson_interval
from vldac.evaluation.study import figures, transfer
from vldac.evaluation.study.records import LEAST_EPISODES
from vldac.evaluation.study.results import (
    Groups,
    Results,
    ablations,
    arrays,
    grid,
    of_ablations,
    of_algorithms,
    read,
    scores,
    shared,
)

_SPEED_NOTE = (
    "Medians over seeds. A run has reached {threshold:g} when the success of its last 100 training episodes, of "
    f"complete cohorts and {LEAST_EPISODES} at least, is that high. Runs that never do are censored: they "
    "count as longer than any. Where the median is among them, `>` stands before the median with the ends of those "
    "runs in their place, which the true one is above."
)


def write(directory: Path) -> Path:
    """Writes report.md and its figures, PNG and SVG, into `directory`; returns the page."""
    results = read(directory)
    drawn = figures.draw(directory, results)
    page = directory / "report.md"
    page.write_text(markdown(results, drawn), encoding="utf-8")
    return page


def markdown(results: Results, drawn: Mapping[str, str]) -> str:
    """The page.

    Args:
        results: of a study.
        drawn: the file names of figures, by what they show.
    """
    parts = [
        f"# Study `{results.study['name']}`",
        _about(results),
        "## Success on unseen episodes",
        _success(results),
        _picture(drawn, "success"),
        _picture(drawn, "profile"),
        "## While learning",
        _speed(results, of_algorithms(results), _SPEED_NOTE),
        _picture(drawn, "curves"),
    ]
    if len(results.algorithms) > 1:
        parts += [f"## {results.reference} beside its rivals", _improvement(results), _picture(drawn, "improvement")]
    if results.select("ablation"):
        parts += ["## Ablations", _ablations(results), _picture(drawn, "ablations")]
        parts += [_speed(results, of_ablations(results)), _picture(drawn, "ablation_curves")]
    if transfer.exams(results):
        parts += ["## What carries over", _transfer(results), _picture(drawn, "transfer")]
    if results.select("grid"):
        parts += ["## The same grid for every algorithm", _grid(results), _picture(drawn, "grid")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(results: Results) -> str:
    lines = results.lines
    machines = sorted({_machine(line["machine"]) for line in lines})
    versions = sorted({", ".join(f"{name} {value}" for name, value in line["versions"].items()) for line in lines})
    seeds = sorted({line["seed"] for line in results.select("main")})
    episodes = sorted({line["trained"]["episodes"] for line in lines})
    models = sorted({line["model"] for line in lines})
    facts = [
        f"`{results.command}`; {len(lines)} of {results.planned} cells have finished",
        f"model {', '.join(models)}; seeds {', '.join(map(str, seeds))}; {_range(episodes)} evaluation episodes a run",
        *(f"machine: {machine}" for machine in machines),
        *(f"versions: {version}" for version in versions),
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _machine(machine: Mapping[str, Any]) -> str:
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return f"{machine['architecture']}, {machine['processor']}, {machine['cores']} cores{gpu}"


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _success(results: Results) -> str:
    environments = results.environments
    rows = []
    for name in ("random", "base"):
        columns = [_policy(results, name, environment) for environment in environments]
        rows.append([f"{name} policy" if name == "random" else f"{name} model", *columns, ""])
    for algorithm in results.algorithms:
        found = scores(results.select("main", algorithm))
        columns = [_estimate(arrays(found, [name])) if name in found else "" for name in environments]
        rows.append(
            [algorithm, *columns, _estimate(arrays(found, environments)) if set(environments) <= set(found) else ""]
        )
    note = (
        "Interquartile mean over runs with its 95% interval (stratified bootstrap over seeds) and the number of runs. "
        "Policies before training: success with its 95% Wilson interval and the number of episodes"
        f"{', those of the base models of all seeds together' if results.study.get('base_per_seed') else ''}."
    )
    return f"{_table(['', *environments, 'all environments'], rows)}\n\n{note}"


def _policy(results: Results, policy: str, environment: str) -> str:
    """A policy before training; where each seed has a base model of its own, their episodes together."""
    lines = [line for line in results.select("main") if line["environment"] == environment]
    if not lines:
        return ""
    of_seeds = {line["seed"]: line[policy] for line in lines}
    bases_differ = policy == "base" and results.study.get("base_per_seed", False)
    reached, episodes = transfer.successes(list(of_seeds.values()) if bases_differ else [lines[0][policy]])
    low, high = wilson_interval(reached, episodes)
    return f"{reached / episodes:.3f} [{low:.3f}, {high:.3f}] (n {episodes})"


def _estimate(of: Sequence[NDArray[np.float64]]) -> str:
    return shown(aggregation.estimate(of))


def shown(estimate: Estimate) -> str:
    """An estimate, its interval and its n."""
    interval = "[one seed: no interval]" if estimate.interval is None else "[{:.3f}, {:.3f}]".format(*estimate.interval)
    return f"{estimate.value:.3f} {interval} (n {estimate.runs})"


def _speed(results: Results, groups: Groups, note: str = "") -> str:
    threshold = results.lines[0]["threshold"]
    rows = []
    for name, group in groups.items():
        for environment in results.environments:
            lines = [line for line in group if line["environment"] == environment]
            if not lines:
                continue
            steps = [line["steps_to_threshold"] for line in lines]
            reached = sum(step is not None for step in steps)
            seconds = [line["seconds_to_threshold"] for line in lines]
            cpu = [line["cpu_seconds"] for line in lines if line["cpu_seconds"] is not None]
            rows.append(
                [
                    name,
                    environment,
                    f"{reached} of {len(lines)}",
                    _median(steps, [line["environment_steps"] for line in lines], "{:.0f}"),
                    _median(seconds, [line["seconds"] for line in lines], "{:.0f} s"),
                    f"{np.median([line['seconds'] for line in lines]):.0f} s",
                    f"{np.median(cpu):.0f} s (n {len(cpu)})" if cpu else "",
                ]
            )
    head = ["", "environment", f"reached {threshold:g}", "steps to it", "time to it", "time in all", "CPU time in all"]
    return f"{_table(head, rows)}\n\n{note.format(threshold=threshold)}".rstrip()


def _median(times: Sequence[float | None], ends: Sequence[float], form: str) -> str:
    """Of times that are None where a run ended before; then it is at least the median with that end in its place."""
    median = aggregation.median_with_censored(times)
    if median is not None:
        return form.format(median)
    least = np.median([end if time is None else time for time, end in zip(times, ends, strict=True)])
    return f"> {form.format(least)}"


def _improvement(results: Results) -> str:
    own = scores(results.select("main", results.reference))
    rows = []
    for rival in results.algorithms:
        if rival == results.reference:
            continue
        other = scores(results.select("main", rival))
        both = shared(own, other)
        if both:
            found = aggregation.probability_of_improvement(arrays(own, both), arrays(other, both))
            rows.append([rival, ", ".join(both), shown(found)])
    note = (
        f"Probability that a run of {results.reference} ends with a higher success than one of the rival, ties at one "
        "half, with its 95% interval; n is the runs of both."
    )
    return f"{_table(['rival', 'environments', f'P({results.reference} > rival)'], rows)}\n\n{note}"


def _ablations(results: Results) -> str:
    rows = []
    for algorithm, variant in ablations(results):
        whole, ablated = (
            scores(results.select("main", algorithm)),
            scores(results.select("ablation", algorithm, variant)),
        )
        both = shared(whole, ablated)
        if both:
            better = aggregation.probability_of_improvement(arrays(whole, both), arrays(ablated, both))
            rows.append(
                [
                    f"{algorithm}, {variant}",
                    ", ".join(both),
                    _estimate(arrays(ablated, both)),
                    _estimate(arrays(whole, both)),
                    shown(better),
                ]
            )
    return _table(["", "environments", "success", "without the change", "P(without > with)"], rows)


def _transfer(results: Results) -> str:
    seeds = sorted({line["seed"] for line in results.lines if line.get("exams") or line.get("benchmarks")})
    note = (
        f"Success of the policies of seeds {', '.join(map(str, seeds))} on unseen episodes, and its difference to that "
        "of the base model with a 95% interval (Newcombe, over the episodes of all seeds; it does not know how much "
        "trainings differ). Bold where zero is outside of it."
    )
    if asked := {name: found for line in results.lines for name, found in line.get("benchmarks", {}).items()}:
        made_here = [name for name, found in asked.items() if found["synthetic"]]
        note += (
            f" {', '.join(asked)}: scores of benchmarks as a share of the best one; differences are of the same "
            "questions, their intervals 1.96 standard errors."
        )
        if loose := [name for name, found in asked.items() if not found["difference"]["paired"]]:
            note += f" {', '.join(loose)}: the score is not the mean of its questions, errors count as independent."
        note += f" Synthetic data, made here: {', '.join(made_here)}." if made_here else ""
    return f"{_table(['', *transfer.exams(results)], transfer.rows(results))}\n\n{note}"


def _grid(results: Results) -> str:
    rows = []
    for (algorithm, environment), points in grid(results).items():
        lowest, median, highest = aggregation.spread(points)
        best = max(points, key=lambda point: points[point])
        columns = [f"{lowest:.3f}", f"{median:.3f}", f"{highest:.3f}", best, str(len(points))]
        rows.append([algorithm, environment, *columns])
    seeds = sorted({line["seed"] for line in results.select("grid")})
    steps = sorted({line["environment_steps"] for line in results.select("grid")})
    note = (
        f"Success over the points of the grid, seeds {', '.join(map(str, seeds))}, {_range(steps)} environment steps."
    )
    return f"{_table(['', 'environment', 'lowest', 'median', 'highest', 'best point', 'points'], rows)}\n\n{note}"


def _picture(drawn: Mapping[str, str], name: str) -> str:
    return f"![{name}]({drawn[name]})" if name in drawn else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
