"""All entries together, along random directions, and bisection for the entry that is wrong."""
