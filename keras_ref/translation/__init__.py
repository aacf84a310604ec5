"""scratch to Keras and back: specifications, weights, random draws, known departures."""
