"""The pytest plugin: hooks and fixtures, targets as tests, a check inside a test, a run that a target may kill."""
