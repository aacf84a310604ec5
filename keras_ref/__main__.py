"""`python -m keras_ref` is the command `gradtwin`."""

from keras_ref.cli import main

main()
