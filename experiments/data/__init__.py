"""Data sets as arrays, from every form that they are published in."""
