"""Benchmarks: each prints its baseline beside us, in one run."""
