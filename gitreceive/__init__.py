"""The SSH door: takes git pushes and admin commands, and runs the push pipeline."""
