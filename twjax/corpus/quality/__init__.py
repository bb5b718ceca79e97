"""Rules, models and word lists that tell good text from bad."""
