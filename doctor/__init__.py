"""Checks of a machine and its clusters against what commands need, and a proof that training runs on their devices."""
