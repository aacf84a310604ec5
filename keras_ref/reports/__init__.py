"""Records of what a check found, and how they are shown: terminal, HTML, GitHub, JSON. No TensorFlow, no arithmetic on gradients."""
