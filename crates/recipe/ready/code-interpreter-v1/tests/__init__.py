"""Tests of the server: `python3 -m unittest discover -t . -s tests`."""
