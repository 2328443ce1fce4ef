"""One module per version of the tables. A released one is never changed."""
