"""Each private name that `echod/upstream/` touches, and each fault it works around, as they are today: a change
upstream fails here."""
