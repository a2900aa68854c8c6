"""The sample data and configurations that `init` and `quickstart` use; files are read with importlib.resources."""
