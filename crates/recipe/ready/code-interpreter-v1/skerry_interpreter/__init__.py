"""Runs code for clients over HTTP, in contexts that keep their variables.

A request is read by `http`, understood by `routes`, and worked on in one of `contexts`, each of which has a kernel: `jupyter` for Python,
`process` for the languages with a driver of our own. `inside` is what the Python kernel loads.
"""
