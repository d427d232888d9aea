"""Runs instances as containers of a Docker engine on this machine."""
