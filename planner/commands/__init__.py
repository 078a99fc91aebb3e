"""The commands that answer without running a model: a file each, thin."""
