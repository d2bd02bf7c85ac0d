"""MLflow: runs, logged models, the registry, promotion and lineage."""
