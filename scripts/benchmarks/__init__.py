"""The rows of scripts/bench, and what they are made of."""
