"""One answer for each question, as commands, sweeps and Python get it."""
