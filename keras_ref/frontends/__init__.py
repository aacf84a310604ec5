"""The command line, the pytest plugin, the callback."""
