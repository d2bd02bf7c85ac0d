"""VisualWebBench (Liu et al. 2024, arXiv 2404.05955): seven tasks on screenshots of web pages.

`benchmark.VisualWebBench` puts the questions. They come from the published data set or, without it, from pages drawn
here, which are synthetic and only resemble the published ones.
"""
