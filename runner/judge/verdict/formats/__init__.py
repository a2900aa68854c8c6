"""One module for each way a judge writes its verdict."""
