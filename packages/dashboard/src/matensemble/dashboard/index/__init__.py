"""What is known of a run, in a private SQLite file that follows its journals.

`feed` keeps it fresh while somebody looks, `run_index` reads the run, `fold` turns records into
rows of `schema`; the other modules ask, one for each kind of question.
"""
