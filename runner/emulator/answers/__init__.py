"""The answers of the emulated judge."""
