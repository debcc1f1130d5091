"""The express lane: leases to the pump, the codec, and the C code of both in `native/`."""
