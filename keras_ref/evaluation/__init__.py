"""A Keras object as a pure float64 function of its weights and inputs. Whatever it touches is restored."""
