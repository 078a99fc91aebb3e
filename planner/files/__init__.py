"""Reads files that anybody may have written, and writes files that are whole or not there. No formulas."""
