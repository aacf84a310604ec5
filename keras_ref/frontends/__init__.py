"""The ways in: command line, pytest plugin, callback for model.fit.

plugin/           the pytest plugin
command_line/     the command `gradtwin`
invocations/      one command as data, which both run
endings/          exit statuses and their sentences
callback.py       GradientCheck
"""
