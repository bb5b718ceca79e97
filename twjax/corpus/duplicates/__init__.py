"""Copies: whole documents, near ones, lines, passages, and evaluation items."""
