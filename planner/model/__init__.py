"""What a model is made of: layers, their weights, and what each keeps."""
