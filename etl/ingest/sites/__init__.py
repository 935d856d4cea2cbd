"""The sources that a site declares, as the files of an ingest."""
