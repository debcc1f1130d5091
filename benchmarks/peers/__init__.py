"""The servers that the benchmark measures, each in one small file, and what the Python servers share."""
