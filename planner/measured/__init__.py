"""Benchmark files and /metrics of a server -> measured points; a file a format."""
