"""The way to the centre: MQTT 5, and an in-memory twin. Importing this loads nothing."""
