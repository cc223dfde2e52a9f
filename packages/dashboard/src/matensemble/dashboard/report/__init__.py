"""A run as one HTML file to keep or to send: no script, no address outside it, at most 5 MB.

`facts` collects what it says, `charts` turns columns of numbers into shapes, `page` makes the file.
"""
