"""Trained models at work: on images as they come, and measured on labelled ones."""
