"""The tests of echod: one file for each module, and one folder for each suite that needs a counterpart of its own."""
