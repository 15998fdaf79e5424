"""WHEN, and WHOSE TURN: rate, lanes, retries, outages. Pure, but for two thin shells that wait."""
