"""What a model is: its file, its card, its bundle, whether it is trusted, and how it is built. Importing this loads nothing."""
