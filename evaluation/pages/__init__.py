"""Results for people: tables, figures, the report of a run, the dashboard of many."""
