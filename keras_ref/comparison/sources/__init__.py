"""What a comparison starts from: settings, the loss, the oracles, autodiff's gradient, and their noise."""
