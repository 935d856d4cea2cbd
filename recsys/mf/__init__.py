"""Bayesian matrix factorisation: the probability of a click from who the user is to the item, position removed."""
