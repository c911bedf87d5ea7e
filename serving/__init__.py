"""The serving root: HTTP server, decision path and client."""
