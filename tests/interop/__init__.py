"""echod with clients that others wrote."""
