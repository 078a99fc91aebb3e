"""From a load to devices: what is tried, what it holds, what it costs."""
