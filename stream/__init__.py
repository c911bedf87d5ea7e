"""The stream root: the Faust application, its thin agents and the pure folding logic they feed."""
