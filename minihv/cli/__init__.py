"""The command line: one file a command; it parses, builds a config and prints a report."""
