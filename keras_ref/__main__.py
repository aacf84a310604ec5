"""`python -m keras_ref` is the command `gradtwin`."""

from keras_ref.frontends.command_line.command import main

main()
