"""The cloud's side: gateway, registry and functions."""
