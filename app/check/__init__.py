"""What is wrong with a data set, counted, with examples and advice: `mimicit check`."""
