"""An example shop on the client: a page whose slate changes with every click."""
