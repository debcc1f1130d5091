"""Fuzzing of the native code under sanitizers: any bytes, in buffers of just their size, against an oracle beside
it."""
