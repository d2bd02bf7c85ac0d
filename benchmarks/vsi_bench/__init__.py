"""VSI-Bench, visual-spatial intelligence from video (Yang et al. 2024, arXiv 2412.14171)."""

from benchmarks.vsi_bench.exam import VSIBench

__all__ = ["VSIBench"]
