"""The emulated service's endpoints."""
