"""What a person or a monitor sees of echod with plain HTTP. The first lines of each file say what is in it."""
