"""Desired state, observed state, and the steps between them."""
