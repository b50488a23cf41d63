"""Panels and studies as plotly figures: the only place that knows plotly."""
