"""The HTTP API: one file per primitive."""
