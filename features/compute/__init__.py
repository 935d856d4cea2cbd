"""Feature values by the catalog: on Spark for training sets and candidates, in Python for one request."""
