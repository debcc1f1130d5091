"""Numbers and time: sizes, counts, deadlines, turns, which connections are read and which get a ping. No I/O."""
