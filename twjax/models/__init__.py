"""Networks, and what each of their weights is."""
