"""What is done with finished runs: predict, export, compress, join, choose."""
