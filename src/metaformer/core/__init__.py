"""What every layer stands on and no model is known to: errors, tables, configs, run records, machine facts."""
