"""The project on disk, child processes, errors: what every other part of the pipeline stands on."""
