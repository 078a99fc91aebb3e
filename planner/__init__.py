"""The ground floor: arithmetic on frozen dataclasses. Standard library and PyYAML only."""
