"""The benchmarks: a module each, or a package whose `suite.py` registers it (`benchmarks.harness.registry`)."""
