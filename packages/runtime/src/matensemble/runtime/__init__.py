"""The runtime: scheduler core, executors, engine, journal, recorder."""
