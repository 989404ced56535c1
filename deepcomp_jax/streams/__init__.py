"""Streams of symbols: symbols to bytes and back, in NumPy alone."""
