"""From a domain file to what it can say: schema, sampling, compilation to a ``core.Automaton``, importers, calibration,
policy."""
