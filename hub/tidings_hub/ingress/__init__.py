"""Other ways in: what backends publish with other emitters."""
