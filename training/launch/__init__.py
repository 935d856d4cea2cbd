"""Backends: local, Ray Train, Horovod and Spark start workers that all run the same loop."""
