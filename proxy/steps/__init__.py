"""The steps that the pipeline walks, one module per kind of route."""
