"""One reader per kind of checkpoint file: from bytes to names, shapes and tensors that are read on request."""
