"""Tests of pipelines.commands."""
