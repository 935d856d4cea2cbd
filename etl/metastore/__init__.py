"""Where the definitions of the tables live: the embedded Derby, or PostgreSQL for several processes at once."""
