"""What a check changes for its own time, precision before all, and how everything is put back."""
