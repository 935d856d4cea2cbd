"""The recommender: recall, coarse and fine ranking, blending, evaluation, promotion and the served lists."""
