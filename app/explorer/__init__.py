"""The web pages: what the service serves, for people who look."""
