"""Tables, progress and files for people at a terminal."""
