"""Turns source into an artifact: source tree in, slug or image out."""
