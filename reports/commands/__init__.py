"""`kvplan report` and `kvplan plot`."""
