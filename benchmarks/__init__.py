"""Speed, measured side by side in one run; runnable by anyone with a checkout: make bench."""
