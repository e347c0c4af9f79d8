"""A benchmark out of anyone's music: tracks, roles, recipes, effects, truth."""
