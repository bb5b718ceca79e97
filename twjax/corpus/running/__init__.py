"""Runners: what a unit of work is, who does it, and how the results are joined."""
