"""Work done item by item: here, or in processes side by side."""
