"""`python -m keras_ref` is the command `gradtwin`."""

from keras_ref.frontends.cli import main

main()
