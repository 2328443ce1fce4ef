"""One hub process: built, run, watched and drained; several by a supervisor."""
