"""Training: `fit.fit` is the loop, `job.Job` what it trains."""
