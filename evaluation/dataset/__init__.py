"""Sample100-ext and whatever is annotated in its format: read, written, made a benchmark."""
