"""echod on a bare Debian: the first steps of a newcomer, by the README's own lines."""
