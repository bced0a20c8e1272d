"""Stories told end to end with real parts, from start to nothing left running."""
