"""Peers: the systems of the table, one file each, all asked the same queries; `interface` says what a file holds."""
