"""The steps' hands: children, the store, where models serve. Importing this loads nothing."""
