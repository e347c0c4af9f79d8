"""Version identification: sets of versions of musical works, and how well versions are found."""
