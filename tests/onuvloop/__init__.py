"""Tests of the edges on the loop that is served on."""
