"""The shared floor: wire events, keys, settings, stores, the commit script and the change feed."""
