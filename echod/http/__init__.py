"""HTTP as the opening handshake needs it: the request head, its verdict, and the octets of an answer."""
