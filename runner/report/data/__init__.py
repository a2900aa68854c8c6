"""Reads the run's Parquet files with DuckDB."""
