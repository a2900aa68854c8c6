"""The sections of the summary."""
