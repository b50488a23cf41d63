"""One probe a file: a frozen config with `measure(exhibits, inputs, journal) -> Measurement`."""
