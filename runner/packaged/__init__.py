"""The sample data and configurations of `init` and `quickstart`, read with importlib.resources."""
