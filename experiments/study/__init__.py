"""Deep Compression of one network, step by step."""
