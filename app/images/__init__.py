"""What a stored value is as a picture: its bytes, its content type, and a smaller one of it."""
