"""Models and devices by name."""
