"""Bytes on each device, and the inverse questions."""
