"""The runtime: compiled models with their memory, and the faces that users and frameworks call."""
