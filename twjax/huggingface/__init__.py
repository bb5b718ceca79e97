"""Hugging Face folders in and out: which of their tensors is which of our weights."""
