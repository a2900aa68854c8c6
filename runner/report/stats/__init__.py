"""Statistics that know nothing of judges."""
