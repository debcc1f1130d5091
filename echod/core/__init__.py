"""Numbers and time: sizes, counts, deadlines, turns, who is read and who is pinged. No input or output."""
