"""Other people's images and instructions, written in the MIMIC-IT form."""
