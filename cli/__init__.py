"""The `moor` command, its verbs, and the composition root of `moor server`."""
