"""Prefect flows, settings and the command line: the only folder that imports prefect and click."""
