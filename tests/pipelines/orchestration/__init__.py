"""Tests of pipelines.orchestration."""
