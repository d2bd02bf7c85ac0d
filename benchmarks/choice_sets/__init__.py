"""Sets of multiple-choice questions about pictures and videos, asked and read as lmms-eval does."""

from benchmarks.choice_sets.erqa import ERQA
from benchmarks.choice_sets.muirbench import MuirBench
from benchmarks.choice_sets.video_mme import VideoMMESpatial

__all__ = ["ERQA", "MuirBench", "VideoMMESpatial"]
