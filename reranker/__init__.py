"""From candidates to matches: cross-attention scores, ranking, search."""
