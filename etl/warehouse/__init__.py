"""The tables: reading, atomic replacement of partitions, checks, quarantine, queries, housekeeping, HiveServer2."""
