"""From frame posteriors to hypotheses: greedy and beam searches, language models, the grammar graph. numpy only."""
