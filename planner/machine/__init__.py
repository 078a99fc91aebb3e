"""This machine: its device, its calibration, its speed."""
