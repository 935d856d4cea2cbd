"""Two-tower networks: a vector of the user and vectors of all items, for candidates by nearest neighbours."""
