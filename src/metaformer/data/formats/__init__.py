"""The formats of labelled images, one file each."""
