"""Solvers: pure functions from priced graphs to cuts."""
