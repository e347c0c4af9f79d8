"""What was found, as others can check it: exports, a page with pictures and players, a bundle that can be verified."""
