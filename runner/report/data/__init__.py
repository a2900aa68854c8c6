"""The Parquet files, read with DuckDB."""
