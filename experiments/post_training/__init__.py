"""Trained networks made small without retraining: ours beside what others do."""
