"""The server under Ray Serve: replicas on the nodes of a cluster answer as the workers of one machine do."""
