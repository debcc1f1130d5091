"""`--workers`: the parent, its workers, and the link between them."""
