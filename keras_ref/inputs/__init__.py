"""What a check is given: targets, call arguments, validated or drawn data."""
