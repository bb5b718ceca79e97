"""Documents: read, cleaned by steps, and written as shards with a manifest."""
