"""The commands that run a model: a file each, thin."""
