"""Intake of notifications from the streams of Redis that emitters append to."""
