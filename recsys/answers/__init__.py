"""Answers of an FAQ ranked for a question: a lexical channel, similar questions and a pair network, blended."""
