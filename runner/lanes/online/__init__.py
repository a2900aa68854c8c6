"""One call for each request, by a pool of workers."""
