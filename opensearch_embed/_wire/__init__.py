"""HOW IT IS SAID: a batch to bytes; status, headers, bytes to vectors or an error. Pure."""
