"""Raw data into warehouse tables: the warehouse itself, and one folder per subject with its job, SQL and command."""
