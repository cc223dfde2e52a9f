"""What chores left behind: opened without following links, bounded, and shown as text."""
