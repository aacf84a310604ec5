"""What an error looks like: explanations of a mismatch, each tried, and told only where it fits to rounding.

A diagnosis is one function in one of these files, registered with `@diagnosis`. It proposes (words, value): what the
wrong value would be if the words were true. The proof is the same for all (`table.py`): the proposed value is that of
the program to rounding, and it is not the right one.
"""
