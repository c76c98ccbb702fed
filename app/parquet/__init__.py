"""Values in place: page headers, encodings, seekable Snappy, and the reader of byte ranges."""
