"""The registry protocol as pure functions and values: no async, no I/O."""
