"""The networks of the study."""
