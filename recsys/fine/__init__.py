"""The fine ranker: an online factorisation machine under FTRL; and the scores of the day's deep model."""
