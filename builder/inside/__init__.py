"""What runs in a build container of ours: the buildpacks of one build, by the same code as on the host.

Only the standard library and PyYAML are there. `parts` says which of our files go in.
"""
