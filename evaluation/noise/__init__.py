"""Noise: are excerpts of stored recordings found again in rooms and under noise, and to how many milliseconds?"""
