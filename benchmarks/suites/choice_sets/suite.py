"""The entries of the sets of multiple-choice questions."""

from __future__ import annotations

from benchmarks.harness.registry import register

ERQA = register("erqa", "ERQA", "benchmarks.suites.choice_sets.erqa:ERQA")
MUIRBENCH = register("muirbench", "MuirBench", "benchmarks.suites.choice_sets.muirbench:MuirBench")
VIDEO_MME_SPATIAL = register(
    "video_mme_spatial", "Video-MME (spatial)", "benchmarks.suites.choice_sets.video_mme:VideoMMESpatial"
)
