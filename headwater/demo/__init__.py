"""The demo: real interactions published as live traffic, real answers judged as they are given."""
