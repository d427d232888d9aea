"""Kinds of databases that a deployment may have: how each is run, what it gives to services, how it is saved."""
