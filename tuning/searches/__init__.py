"""What is searched and how: ranges, samplers, rounds, and which trial is best."""
