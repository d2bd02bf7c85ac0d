"""The scores that the paper reports, as data: its base model, Qwen2-VL-7B-Instruct, and what VL-DAC made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PAPER = "arXiv 2508.04280"


@dataclass(frozen=True)
class Published:
    """A score of the paper, in the unit of its benchmark, percent.

    Attributes:
        title: as people write it.
        benchmark: as summary.json names it.
        task: of the benchmark; None for the benchmark as a whole.
        before: of the base model.
        after: of the trained model; None where the paper says only that it stays within about one point.
        trained_in: the simulator; None where our reading of the paper does not tell.
        before_error: standard error of `before`, None where there is none.
        after_error: standard error of `after`, None where there is none.
        options: what the identity of a benchmark must say for the score to be about the same protocol.
        source: where it is published.
    """

    title: str
    benchmark: str
    task: str | None
    before: float
    after: float | None
    trained_in: str | None = None
    before_error: float | None = None
    after_error: float | None = None
    options: tuple[tuple[str, str], ...] = ()
    source: str = PAPER

    def fits(self, benchmark: str, task: str | None, identity: Mapping[str, Any]) -> bool:
        """Whether it is about this benchmark, task and protocol."""
        return (self.benchmark, self.task) == (benchmark, task) and all(
            identity.get(key) == value for key, value in self.options
        )


def _web(task: str, before: float, after: float) -> Published:
    return Published("VisualWebBench", "visual_web_bench", task, before, after, "WebShop")


def _general(title: str, task: str, before: float) -> Published:
    return Published(title, "lmms_eval", task, before, None)


PUBLISHED: tuple[Published, ...] = (
    Published("BALROG, naive", "balrog", None, 3.21, 4.19, "ALFWorld", 0.75, 0.92, (("agent", "naive"),)),
    Published("BALROG, chain of thought", "balrog", None, 3.94, 6.02, "ALFWorld", 0.98, 1.19, (("agent", "cot"),)),
    Published("VSI-Bench, route planning", "vsi_bench", "route_planning", 30.93, 32.47, "ALFWorld"),
    Published("VSI-Bench, relative direction", "vsi_bench", "object_rel_direction", 32.01, 33.05, "MiniWorld OneRoom"),
    # The paper's two trained models, beside the set of this project and beside that of lmms-eval.
    Published("ERQA", "erqa", None, 38.25, 39.00),
    Published("ERQA", "erqa", None, 38.25, 39.25),
    Published("ERQA", "lmms_eval", "erqa", 38.25, 39.00),
    Published("ERQA", "lmms_eval", "erqa", 38.25, 39.25),
    _web("web_caption", 27.81, 29.31),
    _web("webqa", 71.44, 70.32),
    _web("heading_ocr", 75.62, 76.34),
    _web("element_ocr", 82.36, 83.49),
    _web("element_ground", 87.49, 87.33),
    _web("action_prediction", 4.98, 5.34),
    _web("action_ground", 83.50, 82.52),
    _general("GQA", "gqa", 62.02),
    _general("MMBench", "mmbench_en_dev", 78.86),
    _general("MMStar", "mmstar", 56.53),
    _general("Video-MME", "videomme", 57.70),
)


def find(benchmark: str, task: str | None, identity: Mapping[str, Any]) -> list[Published]:
    """The published scores of a benchmark (`task` None) or of one of its tasks, under this protocol."""
    return [entry for entry in PUBLISHED if entry.fits(benchmark, task, identity)]
