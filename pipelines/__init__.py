"""What runs when, and where the results go: DVC stages, the Prefect flow around them, the MLflow runs and registry."""
