"""Executors: what runs a chore. One protocol, two implementations, and a fake in `testing`."""
