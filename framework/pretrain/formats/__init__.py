"""One reader per kind of checkpoint file: from bytes to names, shapes, and values on request."""
