"""A bundle as a service: one session core, and thin adapters for the protocols that voice clients speak."""
