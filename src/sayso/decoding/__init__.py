"""From frame posteriors to hypotheses: greedy decoders, the grammar graph and its filler. numpy only."""
