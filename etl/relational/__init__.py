"""Relational databases over JDBC: connections and SQL dialects, imports from them, exports to them."""
