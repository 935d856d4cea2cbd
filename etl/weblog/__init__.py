"""The web-log warehouse, step by step: lines are parsed, requests get dimensions, views become visits, SQL reports."""
