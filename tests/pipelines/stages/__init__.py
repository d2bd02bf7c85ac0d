"""Tests of pipelines.stages."""
