"""What a URL asks for: how it is read, and what it does to a connection."""
