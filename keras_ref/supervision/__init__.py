"""Processes within limits, of which nothing is left.

supervise.py   the small process between gradtwin and what it runs apart
processes.py   starting one, and talking to what runs under it
"""
