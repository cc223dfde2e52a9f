"""The subcommands of this distribution, one a module, named as entry points in its metadata.

They parse, print and choose exit codes; what they show is read by `runs`, `history`, `status` and
`workflow`. Heavy modules are imported inside the functions, so that ``--help`` stays quick.
"""
