"""What is done with finished runs: predict, export, compress, combine, compare."""
