"""The express lane: leases, the codec, and the C behind them in `native/`."""
