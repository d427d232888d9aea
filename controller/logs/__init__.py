"""Logs of a service: what was printed, by whom, when; read back, merged by time and followed."""
