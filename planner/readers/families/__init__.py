"""Model types, a few lines each, by what their layers are made of."""
