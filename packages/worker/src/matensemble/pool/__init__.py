"""The warm worker: one process tree on one node that serves many chores.

`node` is the process that the driver starts; it talks to the driver and starts everything else.
`slot` is a process that serves one Python chore at a time. `packet` is what goes between the two.
"""
