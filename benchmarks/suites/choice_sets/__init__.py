"""Sets of multiple-choice questions about pictures and videos, asked and read as lmms-eval does."""

from benchmarks.suites.choice_sets.erqa import ERQA
from benchmarks.suites.choice_sets.muirbench import MuirBench
from benchmarks.suites.choice_sets.video_mme import VideoMMESpatial

__all__ = ["ERQA", "MuirBench", "VideoMMESpatial"]
