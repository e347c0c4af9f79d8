"""Similar sounds: labelled one-shots and notes, and how often what is nearest to one sounds like it."""
