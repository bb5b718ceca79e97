"""Meshes, the one sharding table, and start-up over several processes."""
