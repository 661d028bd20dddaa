"""Maximum likelihood on tensors: one loop, and what it shares with the training of images."""
