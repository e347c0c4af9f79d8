"""Rendered music with known samples, and measures of what was found."""
