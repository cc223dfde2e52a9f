"""The scheduler core: facts in, orders out; no clock, file, thread or Flux handle."""
