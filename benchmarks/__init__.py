"""Benchmarks against the goals and the peers: `python -m benchmarks --help`."""
