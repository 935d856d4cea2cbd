"""Relational databases: connections and dialects over JDBC, what is imported from them, what is exported to them."""
