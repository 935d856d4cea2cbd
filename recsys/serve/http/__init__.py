"""The HTTP side of the server: the application, its limits and metrics. What answers a request knows no HTTP."""
