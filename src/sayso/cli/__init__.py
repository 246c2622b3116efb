"""The ``sayso`` command: thin, one file per group of verbs; what a verb needs is imported when it runs."""
