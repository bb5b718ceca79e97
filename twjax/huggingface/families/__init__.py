"""A file a family of networks, each with a `FAMILY`: its configuration, its table of weights."""
