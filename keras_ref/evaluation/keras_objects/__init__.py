"""What Keras objects consist of: layers, variables, nested inputs, and their names."""
