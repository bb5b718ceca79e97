"""Which language, script and region a text is of, and whose words it uses."""
