"""Work done item by item: here, in processes side by side, or on a cluster."""
