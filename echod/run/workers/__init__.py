"""`--workers`: the parent, its workers, and what they say to each other."""
