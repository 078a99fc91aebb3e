"""What shares the device with the model: adapters, a drafter, other models, idle sessions."""
