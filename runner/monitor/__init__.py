"""Watches a run, never steers it: without this package the results are the same."""
