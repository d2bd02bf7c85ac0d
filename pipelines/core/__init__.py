"""The project on disk, child processes, errors: what every other storey of the pipeline uses."""
