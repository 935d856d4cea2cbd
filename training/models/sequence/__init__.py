"""Models of what a user chooses next, after the sequence of items chosen before."""
