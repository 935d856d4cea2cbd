"""How gradients become steps: optimizers by name, learning-rate schedules, and the rate of each parameter group."""
