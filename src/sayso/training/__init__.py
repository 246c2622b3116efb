"""One training loop that reads every recipe."""
