"""Bytes per element of KV caches and weights, scales and blocks counted."""
