"""From image files to pixels."""
