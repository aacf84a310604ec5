"""Training steps: what an optimizer, or a train_step of one's own, does with the gradient."""
