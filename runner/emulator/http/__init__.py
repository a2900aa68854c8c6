"""The HTTP endpoints of the emulated service."""
