"""From written text to units the recogniser spells, and back."""
