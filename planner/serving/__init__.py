"""A replica under a load: by formulas and request by request."""
