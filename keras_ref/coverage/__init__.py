"""What Keras exports, what has a twin, what is compared."""
