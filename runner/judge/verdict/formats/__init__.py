"""One module for each family of verdict formats."""
