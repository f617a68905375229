"""Management commands: parse, call, print."""
