"""Command line, embedded runtime, data sets and demo: composes the two roots."""
