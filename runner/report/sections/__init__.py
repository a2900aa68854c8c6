"""Computes the sections of the summary."""
