"""The stages of a day as plain data, their Airflow DAGs, a local Airflow, and commands sent to clusters."""
