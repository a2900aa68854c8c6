"""Uploaded files and batch jobs."""
