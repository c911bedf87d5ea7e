"""Tests of the bandits room."""
