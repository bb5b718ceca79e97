"""Simplified Chinese to Taiwan's Traditional Chinese."""
