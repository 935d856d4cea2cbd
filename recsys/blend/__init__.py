"""The ranking stage: scores of all rankers, their blend, and the re-ranking of the served lists."""
