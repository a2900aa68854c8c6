"""One run, from opening its directory to its summary."""
