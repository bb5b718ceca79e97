"""Vocabularies: training and extending them, text ⇄ ids without TensorFlow."""
