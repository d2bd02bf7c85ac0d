"""Tests of pipelines.evaluation."""
