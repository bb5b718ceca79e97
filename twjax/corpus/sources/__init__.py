"""Reading: files of any kind and encoding, as documents."""
