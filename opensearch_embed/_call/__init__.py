"""ONE CALL, from its texts to its vectors: job, results, recall from the cache, streams."""
