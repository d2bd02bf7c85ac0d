"""The benchmarks themselves, one folder or file each."""
