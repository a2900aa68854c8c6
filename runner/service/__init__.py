"""The HTTP client of a judge service, and what its responses say."""
