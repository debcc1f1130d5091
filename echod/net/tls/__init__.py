"""`ssl:` and `tls:` endpoints: certificates from files, chosen by name (SNI), and reloaded under open connections."""
