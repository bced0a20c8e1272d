"""The ways in. Each converts, calls the service, and converts back."""
