"""The native module against plain loops in Python: each kernel that this processor can run, not only the best one."""
