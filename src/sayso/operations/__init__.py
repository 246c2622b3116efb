"""What keeps a shipped bundle good: changes without training, each with a way back."""
