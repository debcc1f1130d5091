"""The metrics: what they are (`declarations`), their numbers (`values`, `collect`), and their form for Prometheus
(`exposition`)."""
