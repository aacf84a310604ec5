"""The command `gradtwin`: one module for each group of verbs, what the command shows, and how it is run.

command.py        the entry point;   first_line.py  what a terminal shows while it loads
cli.py            the application and the four checks;   *_cli.py  the other verbs
overview.py       what it shows alone;   gallery.py  the models that it checks then
path_command.py   what a path is
running.py        a command is run for each of its targets;   starting.py  TensorFlow is imported
published_schema.py  the JSON Schema of all that is written
"""
