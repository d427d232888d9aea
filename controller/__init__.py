"""Keeps the desired state and makes it true: store, operations, API, reconcile loop, backends."""
