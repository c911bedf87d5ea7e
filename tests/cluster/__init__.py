"""A Redis Cluster of real servers for tests."""
