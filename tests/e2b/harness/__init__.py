"""What runs the suites: clients from their registries, a server of its own, jobs side by side, and the table of methods."""
