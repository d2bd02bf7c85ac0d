"""Speed, apart from the tests: `make perf`."""
