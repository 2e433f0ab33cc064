"""What a model is: its file, card and bundle, whether it is trusted, and how it is built.

Importing this loads nothing.
"""
