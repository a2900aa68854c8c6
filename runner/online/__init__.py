"""The online lane: one request at a time, many at once."""
