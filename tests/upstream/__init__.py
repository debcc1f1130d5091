"""These tests state the private names that `echod/upstream/` uses and the upstream faults that it works around, as they
are today. If upstream changes one, a test fails."""
