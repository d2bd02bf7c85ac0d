"""VSI-Bench, visual-spatial intelligence from video (Yang et al. 2024, arXiv 2412.14171)."""
