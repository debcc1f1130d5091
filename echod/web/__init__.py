"""What a person or a monitor sees of echod with plain HTTP: pages, served by twisted.web. Each file says what is in
it."""
