"""The steps' hands: short-lived children, the store, the floor where models serve. Importing this loads nothing."""
