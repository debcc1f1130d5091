"""echod against clients that nobody here wrote."""
