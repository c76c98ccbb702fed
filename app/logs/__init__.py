"""What the service says of its work: a line a request, and one for each thing that went wrong."""
