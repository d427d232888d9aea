"""What is done with services beside running them, each part a plugin: knows, enriches, or holds."""
