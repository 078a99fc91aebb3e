"""What is asked of a server: lengths, traces, arrivals, targets."""
