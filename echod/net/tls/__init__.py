"""`ssl:`, `tls:` and `throwaway:` endpoints: certificates from files, chosen by name (SNI), reloaded under open
connections; or made at start."""
