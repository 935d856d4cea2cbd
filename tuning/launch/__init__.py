"""Where a round of trials runs: side by side on Ray Tune, or one after the other on Spark."""
