"""Layers that several networks share: field embeddings, sharded tables, convolution blocks, weight initialisation."""
