"""Where the findings of the ledger have to be there: in the releases in which they were found."""

from keras_ref.campaign.ledger import FOUND_IN
from keras_ref.campaign.standing import describe_installed


def is_as_found():
    """Whether the installed releases are those in which the findings were found."""
    return describe_installed() == f"Keras {FOUND_IN['keras']} on TensorFlow {FOUND_IN['tensorflow']}"
