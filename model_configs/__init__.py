"""Published model configs and device facts: YAML for people, one compiled line an entry for speed."""
