"""What draws say, and how others take them."""
