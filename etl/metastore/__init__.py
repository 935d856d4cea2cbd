"""Where the definitions of the tables are stored: the embedded Derby, or PostgreSQL for several processes at once."""
