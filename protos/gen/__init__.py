"""Stubs made by ``python -m protos.generate``; do not edit."""
