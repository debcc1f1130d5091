"""echod on a Debian that has nothing else: what a newcomer does first, by README's own lines."""
