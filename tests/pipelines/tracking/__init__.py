"""Tests of pipelines.tracking."""
