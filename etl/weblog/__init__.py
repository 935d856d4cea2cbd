"""Web logs to warehouse: lines are parsed, requests get dimensions, page views become visits, SQL makes the reports."""
