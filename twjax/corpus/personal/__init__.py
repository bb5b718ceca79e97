"""What personal data looks like in Taiwan, and what stands in for it."""
