"""Pure rules: no I/O, no clock, no logging. Times come in as values."""
