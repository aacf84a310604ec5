"""The ways in: command line, pytest plugin, callback for model.fit.

verbs.py          the four checks by name, TensorFlow imported on first use
command.py        the entry point of the command;   interruption.py  how Ctrl-C ends it
exit_status.py    how the command ends
cli.py            the command `gradtwin`;   overview.py  what it shows alone;   gallery.py  the models that it checks
invocation.py     one command as data: run it, write it down, run it again
running.py        it is run for each of its targets;   watching.py  in a process that may be killed by one
isolation.py      a target in a process of its own;   variable_names.py  what it holds
recorded.py       a report read again;   published_schema.py  the JSON Schema of all that is written
pytest_plugin.py  hooks and fixtures;   pytest_items.py  targets as tests;   pytest_checks.py  one check inside a test;
                  pytest_watching.py  a run that may be killed by a target
callback.py       GradientCheck
"""
