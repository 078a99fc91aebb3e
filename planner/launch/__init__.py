"""A pasted start command, script, compose file or manifest -> the question that it asks."""
