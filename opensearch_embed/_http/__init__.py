"""HOW BYTES TRAVEL: requests, aiohttp, deadlines, what is open."""
