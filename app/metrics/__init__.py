"""What the service counts, together for all its workers, and how Prometheus is told."""
