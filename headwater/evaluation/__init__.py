"""How well the next click of a session is predicted: click logs, protocols, measures, reports."""
