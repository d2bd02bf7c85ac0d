"""Prefect: flows, tasks, progress, artifacts, deployments."""
