"""Reading history from files, and sending it to the engine at full speed without disturbing it."""
