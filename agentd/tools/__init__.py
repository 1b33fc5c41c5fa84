"""What can be done by a task besides thinking."""
