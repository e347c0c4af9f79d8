"""Composed and rendered music of our own: the demo's catalogue and queries, multitracks for training."""
