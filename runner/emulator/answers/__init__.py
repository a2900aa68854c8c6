"""What the emulated judge writes."""
