"""HTTP as the opening handshake needs it: the request head, its verdict, and the bytes of an answer."""
