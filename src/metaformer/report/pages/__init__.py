"""Self-contained pages, and tables and charts as files."""
