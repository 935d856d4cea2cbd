"""The coarse ranker: gradient-boosted trees."""
