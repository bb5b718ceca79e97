"""What a model knows: bits-per-byte by domain, and continued text."""
