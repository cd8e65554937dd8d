"""Looking at what a run made: counts, truth where it is known, examples for people."""
