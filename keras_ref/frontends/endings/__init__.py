"""How a command ends: an exit status for each way, one sentence on stderr, and what Ctrl-C does."""
