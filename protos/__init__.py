"""What crosses a wire: messages, tensors, codecs, topics. Imports nothing else of ours."""
