"""Checks of features and training sets: report, audit, selection, and the best possible AUC of generated data."""
