"""One loaded study, judged once: what every page, table and file of it shows."""
