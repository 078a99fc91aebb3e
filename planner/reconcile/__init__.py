"""Start-up logs of serving engines: what they say, and how it compares with what kvplan would have said."""
