"""The options of commands: tables, click, and texts -> values."""
