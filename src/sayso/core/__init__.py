"""Types, errors, settings and formats that every layer shares. Imports nothing of ours."""
