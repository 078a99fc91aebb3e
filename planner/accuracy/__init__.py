"""Our numbers beside what reality printed: case files read, compared, counted for docs/accuracy.md."""
