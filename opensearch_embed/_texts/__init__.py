"""WHAT is sent: checks, token estimates, overflow, repeats, batches. Pure."""
